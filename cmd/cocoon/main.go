// Command cocoon is every role of the Cocoon network in one binary.
package main

func main() {}

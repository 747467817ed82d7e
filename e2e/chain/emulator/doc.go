//go:build !emulator || !cgo

// Command emulator runs transactions in the reference emulator. It is built
// with the tag emulator, with cgo and the emulator's library.
package main

import "fmt"

func main() { fmt.Println("built without the reference emulator") }

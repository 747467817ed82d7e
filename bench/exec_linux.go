package main

import "syscall"

// execSelf replaces this process.
func execSelf(path string, args, env []string) error { return syscall.Exec(path, args, env) }

//go:build !nvml

package main

import "errors"

// open has no library to ask.
func open() ([]device, func(), error) {
	return nil, nil, errors.New("this build cannot ask GPUs: build it with CGO_ENABLED=1 -tags nvml")
}

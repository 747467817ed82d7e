//go:build !tee

package demo

// Tokenize shows tokens to tests outside the package.
func Tokenize(s *Server, text string) []int32 { return s.model.tok.encode(nil, text) }

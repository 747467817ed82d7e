package schema

import "github.com/cocoon-network/cocoon/internal/wire/tl"

// NewObject returns an object of the given id, nil if there is none.
func NewObject(id uint32) Object { return decodeBare(id, tl.NewReader(nil)) }

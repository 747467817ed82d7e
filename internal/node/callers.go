package node

import (
	"context"

	"github.com/cocoon-network/cocoon/internal/api"
)

// callerStore is who may call a gateway; without keys its parts are nil.
type callerStore struct {
	team    api.Team
	answers api.Answers
	run     func(context.Context) error
	close   func()
}

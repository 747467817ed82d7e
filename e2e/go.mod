// Module e2e holds the tests that need more than Go's standard library: other
// people's clients against our program.
module github.com/cocoon-network/cocoon/e2e

go 1.26.0

require (
	github.com/cocoon-network/cocoon v0.0.0
	github.com/openai/openai-go/v3 v3.95.0
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	github.com/tidwall/gjson v1.20.0 // indirect
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
	github.com/tidwall/sjson v1.2.5 // indirect
)

replace github.com/cocoon-network/cocoon => ../

module github.com/cocoon-network/cocoon

go 1.26.0

require (
	github.com/BurntSushi/toml v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/xssnick/tonutils-go v1.18.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
)

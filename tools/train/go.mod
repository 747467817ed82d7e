module github.com/cocoon-network/cocoon/tools/train

go 1.26.0

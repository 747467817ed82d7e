module github.com/cocoon-network/cocoon/attest/nvgpu/collect

go 1.26.0

require github.com/cocoon-network/cocoon v0.0.0

replace github.com/cocoon-network/cocoon => ../../..

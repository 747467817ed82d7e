// Package dcap reads and checks quotes of Intel's data centre attestation:
// SGX quotes of version 3 and TDX quotes of versions 4 and 5 (spec
// attestation 3). It knows layouts, certificate chains and signatures; what a
// caller accepts is attest's business.
//
// Owns: Quote, TDReport, EnclaveReport, Chain, Collateral, Appraisal.
// Imports: nothing of this module.
// Trust: a quote is foreign bytes; nothing in it counts before Verify
// succeeded and the caller recognised the root key.
// Concurrency: pure functions.
package dcap

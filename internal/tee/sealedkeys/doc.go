// Package sealedkeys fetches keys that belong to one guest image on one
// machine: on TDX from a sealing enclave on the host, over VSOCK (spec
// attestation 5); on SEV-SNP from the processor (changes-2026-04 15.5). Files
// encrypted under such a key open nowhere else.
//
// What is kept so is not protected against rollback: a host can put an older
// disk or file in the place of a newer one.
//
// Owns: the sealing protocol, Key, the form of key files.
// Imports: attest, dcap (layouts), tl.
// Trust: the host carries the messages and is not believed; the enclave's
// quote is appraised, and debug enclaves are refused under every policy.
// Concurrency: no shared state; Key is immutable.
package sealedkeys

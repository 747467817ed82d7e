// Package nvgpu verifies the attestation evidence of NVIDIA GPUs in
// confidential-computing mode: an SPDM 1.1 measurements exchange signed by the
// device, the device's certificate chain, and measurements held against pinned
// reference values (spec attestation 8).
//
// Reference values are pinned in the policy, not fetched: whoever builds a
// measured image decides which driver and VBIOS it trusts, and no XML signature
// or online service stands in the trusted base.
//
// Collection, which needs the vendor's driver, is a module of its own (collect).
//
// Owns: Evidence, Set, Report, Policy, Reference, Verify.
// Imports: nothing of this module.
// Trust: evidence is foreign and bounded; roots and references are ours.
// Concurrency: pure functions.
package nvgpu

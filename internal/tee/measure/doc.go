// Package measure computes what a genuine guest must measure, from the files
// it is made of, and reads what a guest says it measured: MRTD and RTMR0..3 of
// TDX, the hash of a spec folder, the attestation log and the firmware's event
// log (spec attestation 6).
//
// The layouts of firmware, kernel and event log are those of edk2, QEMU and
// the TCG; docs/measure.md says which results were held against real machines.
//
// Owns: expected measurements.
// Imports: attest (the image hash), dcap (layout of quotes).
// Trust: firmware, kernels, folders and logs are foreign and bounded.
// Concurrency: pure functions.
package measure

package attest

// Remembered is how many verdicts v holds.
func (v *Verifier) Remembered() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.recent.Len() != len(v.verdicts) {
		return -1
	}
	return v.recent.Len()
}

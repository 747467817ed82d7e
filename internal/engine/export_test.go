package engine

// TestOnlyAuto is Auto with other places than the usual ones.
var TestOnlyAuto = auto

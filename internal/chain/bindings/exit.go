package bindings

import "fmt"

// exitTexts are the error codes of the contracts (spec contracts 2.6, 8) and
// those of the virtual machine that they meet.
var exitTexts = map[int32]string{
	0:    "success",
	1:    "success",
	4:    "integer overflow",
	5:    "a number is out of range",
	9:    "the message is shorter or longer than its layout",
	11:   "the contract takes no such message",
	13:   "out of gas",
	34:   "an outgoing message is invalid",
	37:   "the contract does not have the coins to send",
	1000: "the token counter is not newer",
	1001: "the contract's balance is too low, or there is nothing to withdraw",
	1002: "the terms make no sense: the worker fee is above the price, or the client's delay not below the proxy's",
	1003: "the message carries too little, or the new stake is not larger",
	1004: "the proxy description is malformed",
	1005: "the signed header differs from the outer one",
	1006: "the contract is closed, or in a state that forbids this",
	1007: "the signature is wrong",
	1008: "the struct version of the params is not 3",
	1009: "the sender is not the owner",
	1010: "the sender is not the owner",
	1011: "the closing delay has not passed yet",
	1012: "unknown operation",
	1013: "unknown text command",
	1014: "the sender is not the contract it claims to be",
	1015: "the signed payload is for another address",
	1030: "the wallet message has expired",
	1031: "the wallet is blocked",
	1032: "the wallet's sequence number is another one",
	1033: "the wallet's subwallet number is another one",
	1034: "the wallet message is not signed by the wallet's key",
	1035: "the wallet holds less than 2 coins",
	1040: "the sender is not the wallet's owner",
	1041: "the wallet does not know this operation",
	2000: "no such registered proxy",
}

// ExitText says what an exit code of a contract means.
func ExitText(code int32) string {
	if text, ok := exitTexts[code]; ok {
		return text
	}
	return fmt.Sprintf("exit code %d", code)
}

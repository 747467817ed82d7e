package wallet

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
)

// Words is the length of a mnemonic.
const Words = 24

// The rounds of TON's derivation: the key itself, and the check that tells a
// mnemonic without password.
const (
	keyRounds   = 100_000
	checkRounds = keyRounds / 256
)

// The causes of a refused mnemonic.
var (
	ErrWord     = errors.New("not a word of the mnemonic list")
	ErrMnemonic = errors.New("not a TON mnemonic")
)

//go:embed words.txt
var wordText string

var wordList = sync.OnceValue(func() []string { return strings.Fields(wordText) })

// NewMnemonicKey returns a fresh key that a mnemonic of 24 words restores in
// any TON wallet program. The words are written by WriteKeyFile and are not
// to be had otherwise.
func NewMnemonicKey() Key {
	list := wordList()
	for {
		words := make([]string, Words)
		for i := range words {
			n, err := rand.Int(rand.Reader, big.NewInt(int64(len(list))))
			if err != nil {
				panic(err) // crypto/rand never fails
			}
			words[i] = list[n.Int64()]
		}
		// One in 256 passes the check.
		if key, err := keyFromWords(words); err == nil {
			return key
		}
	}
}

// ParseMnemonic reads a mnemonic of 24 words without password and derives its
// key. A wrong word is named by its place only, as words are a secret.
func ParseMnemonic(s string) (Key, error) {
	words := strings.Fields(strings.ToLower(s))
	if len(words) != Words {
		return Key{}, fmt.Errorf("%w: it has %d words, %d are needed", ErrMnemonic, len(words), Words)
	}
	for i, w := range words {
		if _, ok := slices.BinarySearch(wordList(), w); ok {
			continue
		}
		return Key{}, fmt.Errorf("word %d of %d: %w", i+1, Words, ErrWord)
	}
	return keyFromWords(words)
}

// keyFromWords is TON's derivation: HMAC-SHA-512 keyed with the words, checked
// and stretched with PBKDF2.
func keyFromWords(words []string) (Key, error) {
	text := strings.Join(words, " ")
	mac := hmac.New(sha512.New, []byte(text))
	entropy := string(mac.Sum(nil)) // no password: HMAC of the empty string
	check, err := pbkdf2.Key(sha512.New, entropy, []byte("TON seed version"), checkRounds, 1)
	if err != nil {
		return Key{}, fmt.Errorf("deriving the key: %w", err)
	}
	if check[0] != 0 {
		return Key{}, fmt.Errorf("%w: every word is known but the check fails (a wrong word or a wrong order; mnemonics with a password and BIP-39 mnemonics are not read)", ErrMnemonic)
	}
	seed, err := pbkdf2.Key(sha512.New, entropy, []byte("TON default seed"), keyRounds, 32)
	if err != nil {
		return Key{}, fmt.Errorf("deriving the key: %w", err)
	}
	key := keyFromSeed([32]byte(seed))
	key.words = func() string { return text }
	return key, nil
}

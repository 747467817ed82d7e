package sealedkeys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A key file is fileMagic ‖ salt (32 bytes) ‖ AES-256-GCM(content) under
//
//	HKDF-SHA256(sealed key, salt, "cocoon/key-file/v1\0" ‖ label)
//
// with a nonce of zeros, since the salt makes every key fresh. The label says
// what the content is, so that files cannot be exchanged for one another.
const (
	fileMagic   = "cocoon key file 1\n"
	fileSalt    = 32
	gcmTag      = 16
	maxContent  = 64 << 10
	maxKeyFile  = len(fileMagic) + fileSalt + maxContent + gcmTag
	keyFileMode = 0o600
)

// The ways a key file fails.
var (
	ErrKeyFile     = errors.New("sealedkeys: this is no key file")
	ErrKeyFileOpen = errors.New("sealedkeys: the key file does not open (another image, machine or enclave, a file of another use, or a changed one)")
)

// Seal encrypts content under the key for the use that label names.
func (k Key) Seal(label string, content []byte) ([]byte, error) {
	if len(content) > maxContent {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrKeyFile, len(content), maxContent)
	}
	b := make([]byte, len(fileMagic)+fileSalt, len(fileMagic)+fileSalt+len(content)+gcmTag)
	copy(b, fileMagic)
	rand.Read(b[len(fileMagic):])
	return k.seal(label, b, content)
}

// seal appends the ciphertext to the head of a file.
func (k Key) seal(label string, head, content []byte) ([]byte, error) {
	aead, err := k.fileCipher(label, head)
	if err != nil {
		return nil, err
	}
	return aead.Seal(head, make([]byte, aead.NonceSize()), content, []byte(fileMagic)), nil
}

// Open decrypts what Seal made with the same key and label.
func (k Key) Open(label string, file []byte) ([]byte, error) {
	const head = len(fileMagic) + fileSalt
	if len(file) < head+gcmTag || len(file) > maxKeyFile || !strings.HasPrefix(string(file[:head]), fileMagic) {
		return nil, fmt.Errorf("%w: %d bytes", ErrKeyFile, len(file))
	}
	aead, err := k.fileCipher(label, file[:head])
	if err != nil {
		return nil, err
	}
	content, err := aead.Open(nil, make([]byte, aead.NonceSize()), file[head:], []byte(fileMagic))
	if err != nil {
		return nil, ErrKeyFileOpen
	}
	return content, nil
}

func (k Key) fileCipher(label string, head []byte) (cipher.AEAD, error) {
	salt := head[len(fileMagic):]
	key, err := hkdf.Key(sha256.New, k.reveal()[:], salt, "cocoon/key-file/v1\x00"+label, 32)
	if err != nil {
		return nil, fmt.Errorf("sealedkeys: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sealedkeys: %w", err)
	}
	return cipher.NewGCM(block)
}

// WriteFile seals content into a file of mode 0600. The file is durable when
// WriteFile returns; a crash leaves the old one or the new one.
func (k Key) WriteFile(name, label string, content []byte) error {
	b, err := k.Seal(label, content)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".key-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("sealedkeys: %w", err)
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("sealedkeys: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadFile opens a file that WriteFile wrote. A missing one is
// fs.ErrNotExist; one that others may read is refused.
func (k Key) ReadFile(name, label string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("sealedkeys: %w", err)
	case !info.Mode().IsRegular() || info.Size() > int64(maxKeyFile):
		return nil, fmt.Errorf("%w: %s", ErrKeyFile, name)
	case info.Mode().Perm()&^fs.FileMode(keyFileMode) != 0:
		return nil, fmt.Errorf("%w: %s: others may touch it; make its mode %#o", ErrKeyFile, name, keyFileMode)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("sealedkeys: %w", err)
	}
	content, err := k.Open(label, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return content, nil
}

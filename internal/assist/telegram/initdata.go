package telegram

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The keys by which Telegram signs what it tells Mini Apps, for parties that
// do not hold the bot's token. Source: "Validating data for third-party use",
// https://core.telegram.org/bots/webapps#validating-data-for-third-party-use;
// equal in crate init-data-rs 0.1.4, src/third_party_validation.rs.
var (
	ProductionKey = mustKey("e7bf03a2fa4602af4580703d88dda5bb59f32ed8b02a56c187fe7d34caed242d")
	TestKey       = mustKey("40055058a4ee38156a06562e52eece92a771bcd8346a8c4615cb7376eddf72ec")
)

func mustKey(s string) ed25519.PublicKey {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		panic("a key in the source is damaged")
	}
	return b
}

// InitDataAge is how old a Mini App's data may be.
const InitDataAge = time.Hour

const (
	maxInitData   = 8 << 10
	maxInitFields = 32
	initDataSkew  = time.Minute // how far Telegram's clock may be ahead of ours
)

// InitData is what Telegram says about who opened a Mini App.
type InitData struct {
	User       User
	AuthDate   time.Time
	StartParam string
	// Launch is the hash of what Telegram signed, the same for each copy of the
	// data however it is written; Expires is until when a copy verifies.
	Launch  [sha256.Size]byte
	Expires time.Time
}

// InitDataPolicy says whose data is taken. Its zero value takes none.
type InitDataPolicy struct {
	BotID int64
	// Key is ProductionKey, or TestKey in Telegram's test environment.
	Key ed25519.PublicKey
}

// ErrInitData is why a Mini App's data is refused.
var ErrInitData = errors.New("the Mini App's data is not signed by Telegram for this bot, or older than an hour: open the app again from the bot")

// Verify checks Telegram's Ed25519 signature over a Mini App's initData, the
// query string as it came, and its age at now. The signed text is
// "<bot id>:WebAppData\n" and all fields but hash and signature, sorted,
// "key=value", joined by newlines. It takes as long for a wrong signature as
// for a right one.
func (p InitDataPolicy) Verify(initData string, now time.Time) (*InitData, error) {
	if p.BotID <= 0 || len(p.Key) != ed25519.PublicKeySize || len(initData) > maxInitData {
		return nil, ErrInitData
	}
	fields, err := url.ParseQuery(initData)
	if err != nil || len(fields) > maxInitFields {
		return nil, ErrInitData
	}
	lines := make([]string, 0, len(fields))
	for k, v := range fields {
		// What joins lines must not stand in one, or two readings had one signature.
		if len(v) != 1 || strings.ContainsAny(k, "=\n") || strings.Contains(v[0], "\n") {
			return nil, ErrInitData
		}
		if k != "hash" && k != "signature" {
			lines = append(lines, k+"="+v[0])
		}
	}
	slices.Sort(lines)
	sig, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(fields.Get("signature"), "="))
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, ErrInitData
	}
	signed := []byte(strconv.FormatInt(p.BotID, 10) + ":WebAppData\n" + strings.Join(lines, "\n"))
	if !ed25519.Verify(p.Key, signed, sig) {
		return nil, ErrInitData
	}
	seconds, err := strconv.ParseInt(fields.Get("auth_date"), 10, 48)
	if err != nil {
		return nil, ErrInitData
	}
	d := &InitData{AuthDate: time.Unix(seconds, 0), StartParam: fields.Get("start_param"), Launch: sha256.Sum256(signed)}
	d.Expires = d.AuthDate.Add(InitDataAge)
	if age := now.Sub(d.AuthDate); age > InitDataAge || age < -initDataSkew {
		return nil, ErrInitData
	}
	if u := fields.Get("user"); u != "" && json.Unmarshal([]byte(u), &d.User) != nil || d.User.ID <= 0 {
		return nil, ErrInitData
	}
	return d, nil
}

// Package tsig signs DNS messages and verifies their signatures (TSIG, RFC 8945), on the octets of whole messages. It does not know which keys
// there are, who may do what with them, nor how messages travel.
//
// What holds:
//   - A message is taken for signed only after its MAC was compared, in constant time, and after that its time; nothing in it is believed before.
//   - An answer to a request whose key is not known, or whose MAC is wrong, is never signed.
//   - A request's MAC counts as it came, truncated or not, in its answer's.
package tsig

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"strconv"
	"time"

	"balefire/zones"
)

// Key is a key with its secret.
type Key = zones.TSIGKey

// Ring is the keys that there are. It is called by many goroutines at once.
type Ring interface {
	// Key returns the key of a name; ok is false when there is none.
	Key(name zones.Name) (k Key, ok bool)
}

// Fudge is how far two clocks may be apart (RFC 8945 §10), in seconds. Who asks for more does not get more.
const Fudge = 300

// minMAC is the policy for truncated MACs: 128 bits, which is what the shortest truncation that has a name has (RFC 8945 §6).
const minMAC = 16

// The sizes of a record, in octets.
const (
	headerLen = 12
	fixedLen  = 10 + 16 // type, class, TTL, RDLENGTH; what RDATA has beside the algorithm, the MAC and other data
	otherLen  = 6       // the server's time, when it differs
	// MaxLen is more than what Sign appends with a key that there is. Session.Len says it exactly.
	MaxLen = zones.MaxNameLen + fixedLen + 26 + 64 + otherLen
)

// Error is what a TSIG record says that is wrong (RFC 8945 §3).
type Error uint16

// The errors that are TSIG's own.
const (
	BadSig   Error = 16
	BadKey   Error = 17
	BadTime  Error = 18
	BadTrunc Error = 22
)

// String returns the error's name.
func (e Error) String() string {
	switch e {
	case 0:
		return "NOERROR"
	case BadSig:
		return "BADSIG"
	case BadKey:
		return "BADKEY"
	case BadTime:
		return "BADTIME"
	case BadTrunc:
		return "BADTRUNC"
	}
	return "TSIG error " + strconv.Itoa(int(e))
}

func newMAC(k *Key) hash.Hash {
	switch k.Algorithm {
	case zones.HMACMD5:
		return hmac.New(md5.New, k.Secret)
	case zones.HMACSHA1:
		return hmac.New(sha1.New, k.Secret)
	case zones.HMACSHA224:
		return hmac.New(sha256.New224, k.Secret)
	case zones.HMACSHA256:
		return hmac.New(sha256.New, k.Secret)
	case zones.HMACSHA384:
		return hmac.New(sha512.New384, k.Secret)
	case zones.HMACSHA512:
		return hmac.New(sha512.New, k.Secret)
	}
	return nil
}

// record is a TSIG record (RFC 8945 §4.2). mac and other share the memory of the message that it was read from.
type record struct {
	name      zones.Name
	algorithm zones.Name
	signed    uint64 // Unix seconds, 48 bits
	fudge     uint16
	mac       []byte
	id        uint16
	err       Error
	other     []byte
}

const (
	typeTSIG = uint16(zones.TypeTSIG)
	classANY = 255
)

// read reads the record that fills packet from at; ok is false when it is malformed.
func read(packet []byte, at int) (r record, ok bool) {
	if at < headerLen || at > len(packet) {
		return r, false
	}
	name, at, ok := readName(packet, at)
	if !ok || len(packet)-at < 10 {
		return r, false
	}
	head, rdata := packet[at:at+10], packet[at+10:]
	// RFC 8945 §4.2: class ANY, TTL 0.
	if binary.BigEndian.Uint16(head) != typeTSIG || binary.BigEndian.Uint16(head[2:]) != classANY || binary.BigEndian.Uint32(head[4:]) != 0 ||
		int(binary.BigEndian.Uint16(head[8:])) != len(rdata) {
		return r, false
	}
	algorithm, n, err := zones.NameFromWire(rdata) // not compressed
	if err != nil || len(rdata)-n < 10 {
		return r, false
	}
	rdata = rdata[n:]
	r = record{
		name: name, algorithm: algorithm,
		signed: uint64(binary.BigEndian.Uint16(rdata))<<32 | uint64(binary.BigEndian.Uint32(rdata[2:])),
		fudge:  binary.BigEndian.Uint16(rdata[6:]),
	}
	size := int(binary.BigEndian.Uint16(rdata[8:]))
	if rdata = rdata[10:]; len(rdata) < size+6 {
		return r, false
	}
	r.mac, rdata = rdata[:size:size], rdata[size:]
	r.id = binary.BigEndian.Uint16(rdata)
	r.err = Error(binary.BigEndian.Uint16(rdata[2:]))
	r.other = rdata[6:]
	return r, int(binary.BigEndian.Uint16(rdata[4:])) == len(r.other)
}

// readName reads the name at packet[at:], in lower case and memory of its own, and returns where what follows it begins. Each pointer leads to
// before where the one before it led, so it ends.
func readName(packet []byte, at int) (name zones.Name, next int, ok bool) {
	var whole []byte
	next = -1
	for start := at; ; {
		if at >= len(packet) {
			return "", 0, false
		}
		l := int(packet[at])
		switch {
		case l >= 0xc0:
			if at+2 > len(packet) {
				return "", 0, false
			}
			to := int(binary.BigEndian.Uint16(packet[at:]) & 0x3fff)
			if to >= start || to < headerLen {
				return "", 0, false
			}
			if next < 0 {
				next = at + 2
			}
			at, start = to, to
			continue
		case l > zones.MaxLabelLen || at+1+l > len(packet) || len(whole)+1+l > zones.MaxNameLen:
			return "", 0, false
		}
		whole = append(whole, packet[at:at+1+l]...)
		at += 1 + l
		if l > 0 {
			continue
		}
		if next < 0 {
			next = at
		}
		name, _, err := zones.NameFromWire(whole) // again in lower case
		return name, next, err == nil
	}
}

// append appends the record.
func (r *record) append(dst []byte) []byte {
	dst = append(dst, r.name...)
	dst = binary.BigEndian.AppendUint16(dst, typeTSIG)
	dst = binary.BigEndian.AppendUint16(dst, classANY)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.algorithm)+16+len(r.mac)+len(r.other)))
	dst = append(dst, r.algorithm...)
	dst = r.appendTimers(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.mac)))
	dst = append(dst, r.mac...)
	dst = binary.BigEndian.AppendUint16(dst, r.id)
	return r.appendError(dst)
}

func (r *record) appendTimers(dst []byte) []byte {
	dst = appendTime(dst, r.signed)
	return binary.BigEndian.AppendUint16(dst, r.fudge)
}

func (r *record) appendError(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.err))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.other)))
	return append(dst, r.other...)
}

func appendTime(dst []byte, t uint64) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(t>>32))
	return binary.BigEndian.AppendUint32(dst, uint32(t))
}

// variables are what of the record is signed (RFC 8945 §4.3.3).
func (r *record) variables() []byte {
	b := make([]byte, 0, len(r.name)+len(r.algorithm)+18+len(r.other))
	b = append(b, r.name...)
	b = binary.BigEndian.AppendUint16(b, classANY)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, r.algorithm...)
	b = r.appendTimers(b)
	return r.appendError(b)
}

// digestMAC gives h an earlier MAC (RFC 8945 §4.3.1).
func digestMAC(h hash.Hash, mac []byte) {
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(mac))))
	h.Write(mac)
}

// digestMessage gives h the message that ended at at before it was signed: with the ID that it had then, and without the record
// in the count of the additional section (RFC 8945 §4.3.2).
func digestMessage(h hash.Hash, packet []byte, at int, id uint16) {
	var head [headerLen]byte
	copy(head[:], packet)
	binary.BigEndian.PutUint16(head[:], id)
	binary.BigEndian.PutUint16(head[10:], binary.BigEndian.Uint16(head[10:])-1)
	h.Write(head[:])
	h.Write(packet[headerLen:at])
}

// timely reports whether two clocks are near enough (RFC 8945 §5.2.3).
func timely(signed uint64, fudge uint16, now time.Time) bool {
	there, here, fuzz := int64(signed), now.Unix(), int64(min(fudge, Fudge))
	return there-here <= fuzz && here-there <= fuzz
}

// compare returns what is wrong with a MAC, whose right and whole form is want (RFC 8945 §5.2.2.1). malformed says that it could not have been
// made by who keeps to the rules.
func compare(mac, want []byte) (err Error, malformed bool) {
	switch {
	case len(mac) > len(want) || len(mac) < max(10, (len(want)+1)/2):
		return 0, true
	case !hmac.Equal(mac, want[:len(mac)]):
		return BadSig, false
	case len(mac) < min(minMAC, len(want)):
		return BadTrunc, false
	}
	return 0, false
}

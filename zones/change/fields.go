package change

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"balefire/zones"
)

// shape is what a field of a message holds.
type shape uint8

const (
	unknown     shape = iota
	number            // a varint, at most once
	octetString       // octets, text or a message, at most once
	repeated          // octets, text or a message, any number of times
)

// schema is the fields of a message by number, all below 64.
type schema []shape

// field is one field of a message. Its octets share the record's memory.
type field struct {
	number protowire.Number
	value  uint64
	octets []byte
}

// read calls take with each field of message b, in the order of the octets, which it demands to be as known says.
// what names the message in errors.
func read(b []byte, what string, known schema, take func(field) error) error {
	var seen uint64
	for len(b) > 0 {
		num, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%s: broken field", what)
		}
		b = b[n:]
		if int64(num) >= int64(len(known)) || known[num] == unknown {
			return fmt.Errorf("%s: field %d is unknown at this format level", what, num)
		}
		f := field{number: num}
		switch known[num] {
		case number:
			if wire != protowire.VarintType {
				return fmt.Errorf("%s: field %d is no number", what, num)
			}
			f.value, n = protowire.ConsumeVarint(b)
		default:
			if wire != protowire.BytesType {
				return fmt.Errorf("%s: field %d is of wire type %d, not %d", what, num, wire, protowire.BytesType)
			}
			f.octets, n = protowire.ConsumeBytes(b)
		}
		if n < 0 {
			return fmt.Errorf("%s: field %d is broken", what, num)
		}
		b = b[n:]
		if known[num] != repeated {
			if seen&(1<<num) != 0 {
				return fmt.Errorf("%s: field %d comes twice", what, num)
			}
			seen |= 1 << num
		}
		if err := take(f); err != nil {
			return err
		}
	}
	return nil
}

// readOneof reads a message that is exactly one of the members known.
func readOneof(b []byte, what string, known schema) (member protowire.Number, body []byte, err error) {
	err = read(b, what, known, func(f field) error {
		if member != 0 {
			return fmt.Errorf("%s: fields %d and %d, where one is allowed", what, member, f.number)
		}
		member, body = f.number, f.octets
		return nil
	})
	if err == nil && member == 0 {
		err = fmt.Errorf("%s: empty", what)
	}
	return member, body, err
}

func (f field) uint32(to *uint32) error {
	if f.value > math.MaxUint32 {
		return fmt.Errorf("field %d: %d does not fit 32 bits", f.number, f.value)
	}
	*to = uint32(f.value)
	return nil
}

func (f field) rrtype(to *zones.Type) error {
	if f.value > math.MaxUint16 {
		return fmt.Errorf("field %d: %d is no RR type", f.number, f.value)
	}
	*to = zones.Type(f.value)
	return nil
}

// time reads a time in milliseconds since 1970.
func (f field) time(to *time.Time) error {
	if f.value == 0 || f.value > maxMillis {
		return fmt.Errorf("field %d: %d is no time", f.number, f.value)
	}
	*to = time.UnixMilli(int64(f.value)).UTC()
	return nil
}

// maxMillis is the last time that is read, in the year 9999: the library's own limits are far beyond.
const maxMillis = 253402300799999

func (f field) flag(to *bool) error {
	if f.value > 1 {
		return fmt.Errorf("field %d: %d is no boolean", f.number, f.value)
	}
	*to = f.value == 1
	return nil
}

func (f field) id(to *zones.ChangeID) error {
	if len(f.octets) != len(to) {
		return fmt.Errorf("field %d: an ID is %d octets", f.number, len(to))
	}
	copy(to[:], f.octets)
	return nil
}

func (f field) name(to *zones.Name) error {
	name, used, err := zones.NameFromWire(f.octets)
	if err == nil && used != len(f.octets) {
		err = errors.New("octets after the name")
	}
	if err != nil {
		return fmt.Errorf("field %d: %w", f.number, err)
	}
	*to = name
	return nil
}

func (f field) appendRRset(to *[]zones.RRset) error {
	if len(*to) == MaxRRsetsTouched {
		return &zones.Rejection{Rule: zones.RuleTooLarge, Op: -1, Detail: fmt.Sprintf("more than %d RRsets", MaxRRsetsTouched)}
	}
	s, err := decodeRRset(f.octets)
	if err != nil {
		return err
	}
	*to = append(*to, s)
	return nil
}

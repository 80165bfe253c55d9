package differential

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"balefire/dnsserver/wire"
	"balefire/store/hotzone"
	"balefire/zones"
	"balefire/zones/answer"
	"balefire/zones/zonestest"
)

// hosted is the zones that Balefire serves in a test, in memory.
type hosted map[zones.Name]*hotzone.Zone

func load(t *testing.T, apex zones.Name, sets []zones.RRset) *hotzone.Zone {
	t.Helper()
	reference := zonestest.NewView(apex, sets)
	b := hotzone.NewBuilder(apex)
	for _, node := range reference.Nodes() {
		if err := b.Add(node); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range reference.HashedNodes() {
		if err := b.AddHashed(node); err != nil {
			t.Fatal(err)
		}
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// find returns the zone of the longest hosted apex; for DS at an apex, the next one above, if that is hosted.
func (h hosted) find(qname zones.Name, qtype zones.Type) (found *hotzone.Zone) {
	for name := qname; ; name = name.Parent() {
		if z := h[name]; z != nil {
			found = z
			if qtype != zones.TypeDS || name != qname {
				return z
			}
		}
		if name == zones.Root {
			return found
		}
	}
}

func (h hosted) reply(packet []byte, limit int) []byte {
	var q wire.Query
	wire.Parse(packet, &q)
	r := wire.Reply{Limit: limit, UDPSize: 1232, ExtendedError: wire.NoExtendedError}
	if limit < 65535 {
		r.Limit = q.Limit(1232)
	}
	if q.Verdict == wire.Fail {
		r.RCode = q.RCode
		out, _ := wire.Append(nil, &q, nil, &r)
		return out
	}
	z := h.find(q.Name, q.Type)
	if z == nil {
		r.RCode = wire.Refused
		out, _ := wire.Append(nil, &q, nil, &r)
		return out
	}
	var a answer.Answer
	if err := answer.Resolve(z, answer.Question{Name: q.Name, Type: q.Type, DNSSEC: q.DO}, &a); err != nil {
		r.RCode = wire.ServFail
		out, _ := wire.Append(nil, &q, nil, &r)
		return out
	}
	r.FromAnswer(&a)
	out, _ := wire.Append(nil, &q, &a, &r)
	return out
}

func startBalefire(t *testing.T, h hosted) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(l.Close(), u.Close()) })
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(h.reply(buf[:n], 512), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					var length [2]byte
					if _, err := io.ReadFull(c, length[:]); err != nil {
						return
					}
					b := make([]byte, binary.BigEndian.Uint16(length[:]))
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					out := h.reply(b, 65535)
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
				}
			}()
		}
	}()
	return l.Addr().String()
}

package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// goldenFrames were written by the first version of the code, and are never written again.
const goldenFrames = "../../testdata/formats/v1/relay-"

func appendFrame(dst []byte, id uint32, k kind, left time.Duration, payload string) []byte {
	return append(appendHeader(dst, id, k, left, len(payload)), payload...)
}

func TestFramesAreGolden(t *testing.T) {
	tests := map[string]struct {
		octets   []byte
		requests bool
		want     []frame
	}{
		"request.bin": {
			appendFrame(appendFrame(nil, 0x01020304, kindRequest, 1234*time.Millisecond, "a question"), 5, kindRequest, time.Hour, ""), true,
			[]frame{{0x01020304, kindRequest, 1234 * time.Millisecond, []byte("a question")}, {5, kindRequest, 65535 * time.Millisecond, []byte{}}},
		},
		"reply.bin": {
			appendFrame(appendFrame(appendFrame(nil, 0, kindWelcome, 0, ""), 5, kindReply+kind(OK), 0, "an answer"), 0x01020304, kindReply+kind(Overloaded), 0, ""), false,
			[]frame{{0, kindWelcome, 0, []byte{}}, {5, kindReply, 0, []byte("an answer")}, {0x01020304, kindReply + 4, 0, []byte{}}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(goldenFrames + name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(tt.octets, want) {
				t.Errorf("the format has changed:\ngot:  %x\nwant: %x", tt.octets, want)
			}
			in := newFrameReader(&written{Reader: bytes.NewReader(want)}, tt.requests, 0)
			for i, f := range tt.want {
				got, err := in.next()
				if err != nil || got.id != f.id || got.kind != f.kind || got.left != f.left || !bytes.Equal(got.payload, f.payload) {
					t.Errorf("frame %d: %+v, %v; want %+v", i, got, err, f)
				}
			}
			if _, err := in.next(); !errors.Is(err, io.EOF) {
				t.Errorf("error %v at the end", err)
			}
		})
	}
}

// written is a connection whose octets are all there.
type written struct {
	net.Conn
	io.Reader
}

func (w *written) Read(b []byte) (int, error)      { return w.Reader.Read(b) }
func (w *written) SetReadDeadline(time.Time) error { return nil }

func TestReaderRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	tests := map[string]struct {
		octets   []byte
		requests bool
		want     error // nil: it is good
	}{
		"the longest request":       {appendFrame(nil, 1, kindRequest, 0, long(MaxRequest)), true, nil},
		"a longer request":          {appendFrame(nil, 1, kindRequest, 0, long(MaxRequest+1)), true, errMalformed},
		"the longest reply":         {appendFrame(nil, 1, kindReply, 0, long(MaxReply)), false, nil},
		"a longer reply":            {appendFrame(nil, 1, kindReply, 0, long(MaxReply+1)), false, errMalformed},
		"a welcome with payload":    {appendFrame(nil, 1, kindWelcome, 0, "x"), false, errMalformed},
		"a request among replies":   {appendFrame(nil, 1, kindRequest, 0, ""), false, errMalformed},
		"a reply among requests":    {appendFrame(nil, 1, kindReply, 0, ""), true, errMalformed},
		"a status beyond the last":  {appendFrame(nil, 1, kindReply+kind(statuses), 0, ""), false, errMalformed},
		"a reply with time left":    {appendFrame(nil, 1, kindReply, time.Second, ""), false, errMalformed},
		"an end inside the header":  {appendFrame(nil, 1, kindRequest, 0, "")[:headerLen-1], true, io.ErrUnexpectedEOF},
		"an end inside the payload": {appendFrame(nil, 1, kindRequest, 0, "abc")[:headerLen+2], true, io.ErrUnexpectedEOF},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := newFrameReader(&written{Reader: bytes.NewReader(tt.octets)}, tt.requests, 0).next()
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// FuzzFrames: whatever comes, the reader ends, and what it reads would be written alike.
func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, 1, kindRequest, time.Second, "abc"), 2, kindRequest, 0, ""), true)
	f.Add(appendFrame(appendFrame(nil, 0, kindWelcome, 0, ""), 2, kindReply, 0, "abc"), false)
	f.Fuzz(func(t *testing.T, octets []byte, requests bool) {
		in := newFrameReader(&written{Reader: bytes.NewReader(octets)}, requests, 0)
		var again []byte
		for {
			fr, err := in.next()
			if err != nil {
				break
			}
			again = appendFrame(again, fr.id, fr.kind, fr.left, string(fr.payload))
		}
		if !bytes.HasPrefix(octets, again) {
			t.Fatalf("%x came back as %x", octets, again)
		}
	})
}

// slowConn is a connection that writes when it is told to.
type slowConn struct {
	net.Conn
	writing chan []byte   // what is to be written
	proceed chan struct{} // closed: go on
}

func (c *slowConn) SetWriteDeadline(time.Time) error { return nil }

func (c *slowConn) Write(b []byte) (int, error) {
	c.writing <- bytes.Clone(b)
	<-c.proceed
	return len(b), nil
}

// TestWritesAreJoined: what is put while a write is under way goes out with one more. What doesn't fit waits, or is refused.
func TestWritesAreJoined(t *testing.T) {
	conn := &slowConn{writing: make(chan []byte), proceed: make(chan struct{})}
	w := newFrameWriter(conn)
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.run(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v", err)
		}
	})
	w.put(1, kindRequest, 0, []byte("first"), false)
	if got := <-conn.writing; !bytes.Equal(got, appendFrame(nil, 1, kindRequest, 0, "first")) {
		t.Errorf("wrote %x", got)
	}
	w.put(2, kindRequest, 0, []byte("second"), false)
	w.put(3, kindRequest, 0, make([]byte, maxWaiting-200), false)
	if w.put(4, kindRequest, 0, make([]byte, 200), false) {
		t.Error("there was room for more than is allowed")
	}
	var waited bool
	var waiting sync.WaitGroup
	waiting.Go(func() { waited = w.put(5, kindRequest, 0, make([]byte, 200), true) })
	close(conn.proceed)
	if got := <-conn.writing; len(got) != 2*headerLen+len("second")+maxWaiting-200 {
		t.Errorf("wrote %d octets", len(got))
	}
	if got := <-conn.writing; len(got) != headerLen+200 {
		t.Errorf("wrote %d octets at last", len(got))
	}
	waiting.Wait()
	if !waited {
		t.Error("what waited for room was refused")
	}
	w.close()
	running.Wait()
	if w.put(6, kindRequest, 0, nil, true) {
		t.Error("something was put after close")
	}
}

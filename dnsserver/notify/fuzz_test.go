package notify

import (
	"bytes"
	"testing"

	"balefire/zones"
)

// FuzzAnswer: whatever comes as an answer to a NOTIFY, nothing panics, and what is taken for one is of its opcode and question.
func FuzzAnswer(f *testing.F) {
	apex := zones.MustParseName("example.")
	request := appendRequest(nil, 7, apex, zones.RRset{})
	f.Add(request)
	answer := bytes.Clone(request)
	answer[2] |= 0x80
	f.Add(answer)
	f.Add(answer[:12])
	f.Fuzz(func(t *testing.T, msg []byte) {
		id, ok := answerID(msg)
		if !ok {
			return
		}
		rcode, err := readAnswer(msg, apex)
		if err != nil {
			return
		}
		if id != uint16(msg[0])<<8|uint16(msg[1]) || rcode > 15 || msg[2]&0xf8 != 0xa0 {
			t.Fatalf("%x is answer %d to message %d", msg, rcode, id)
		}
		if rcode == 0 && !bytes.EqualFold(msg[12:12+len(apex)], []byte(apex)) {
			t.Fatalf("%x answers another question", msg)
		}
	})
}

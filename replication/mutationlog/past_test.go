package mutationlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What others wrote can be read, from an exact offset, without becoming part of the namespace.
func TestPast(t *testing.T) {
	b := startBroker(t, brokerOptions(t.TempDir()))
	opts := nodeOptions(t, b, "past")
	if _, err := OpenPast(deadline(t), opts); err == nil || !strings.Contains(err.Error(), "no topic past.mutations") {
		t.Fatalf("a namespace that does not exist: %v", err)
	}
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	<-l.Established()
	if _, err := l.Publish(deadline(t), 2, []byte("k"), []byte("0")); err != nil {
		t.Fatal(err)
	}

	p, err := OpenPast(deadline(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.TopicID() != l.TopicID() || p.Partitions() != 4 {
		t.Errorf("topic %x with %d partitions", p.TopicID(), p.Partitions())
	}
	for i := 1; i < 5; i++ {
		if _, err := l.Publish(deadline(t), 2, []byte("k"), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	bounds, err := p.Bounds(deadline(t))
	if err != nil || bounds[2] != (Bounds{0, 5}) {
		t.Errorf("bounds %v, %v", bounds, err)
	}
	s, err := p.Consume(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for next := int64(3); next < 5; {
		batch, err := s.Next(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Records {
			got = append(got, fmt.Sprintf("%d=%s", r.Offset, r.Value))
		}
		next = batch.Next
	}
	if strings.Join(got, " ") != "3=3 4=4" {
		t.Errorf("read %v", got)
	}
	s.Close()
	if s, err = p.Consume(2, 9); err != nil {
		t.Fatal(err)
	}
	var out *OutOfRangeError
	if _, err := s.Next(deadline(t)); !errors.As(err, &out) || out.End != 5 {
		t.Errorf("after the log's end: %v", err)
	}
	p.Close()
	if _, err := s.Next(deadline(t)); err == nil {
		t.Error("read after it was closed")
	}
	if groups, err := l.admin.ListGroups(deadline(t)); err != nil || len(groups) != 0 {
		t.Errorf("groups %v, %v", groups, err)
	}
}

//go:build clusterbench && kafka && s3

package clusterbench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"balefire/zones"
)

// question is a query for an A record, without its ID.
func question(name string) []byte {
	b := []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	b = append(b, zones.MustParseName(name)...)
	return append(b, 0, byte(zones.TypeA), 0, 1)
}

// address returns the first A record of an answer to question.
func address(question, answer []byte) (value [4]byte, err error) {
	// The owner is a pointer, then come type, class, TTL and length.
	at := len(question) + 12
	if len(answer) < at+4 || answer[3]&15 != 0 || answer[7] == 0 {
		return value, fmt.Errorf("an answer of %d octets without an address: %x", len(answer), answer[:min(len(answer), 12)])
	}
	return [4]byte(answer[at:]), nil
}

// patience is how long an answer may take before its query counts as lost.
const patience = 3 * time.Second

// asker asks one query after another.
type asker struct {
	conn net.Conn
	buf  [2048]byte
	id   uint16
}

func newAsker(server string) (*asker, error) {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return nil, err
	}
	return &asker{conn: conn}, nil
}

// ask returns the answer, which is good until the next.
func (a *asker) ask(question []byte) ([]byte, error) {
	a.id++
	binary.BigEndian.PutUint16(question, a.id)
	if err := a.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := a.conn.Write(question); err != nil {
		return nil, err
	}
	for {
		n, err := a.conn.Read(a.buf[:])
		if err != nil {
			return nil, err
		}
		if n >= 12 && binary.BigEndian.Uint16(a.buf[:]) == a.id {
			return a.buf[:n], nil
		}
	}
}

// oneByOne asks so many queries, each after the answer to the one before.
func oneByOne(server, name string, count int) (durations, error) {
	a, err := newAsker(server)
	if err != nil {
		return nil, err
	}
	defer a.conn.Close()
	q, all := question(name), make(durations, 0, count)
	for range count {
		begin := time.Now()
		answer, err := a.ask(q)
		if err != nil {
			return nil, err
		}
		all = append(all, time.Since(begin))
		if _, err := address(q, answer); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// throughput has clients ask one by one for a while, and returns the answers a second.
func throughput(server, name string, clients int, length time.Duration) (float64, error) {
	var answers atomic.Int64
	errs := make([]error, clients)
	var all sync.WaitGroup
	begin := time.Now()
	for i := range clients {
		all.Go(func() {
			a, err := newAsker(server)
			if err != nil {
				errs[i] = err
				return
			}
			defer a.conn.Close()
			q := question(name)
			for time.Since(begin) < length {
				answer, err := a.ask(q)
				if err == nil {
					_, err = address(q, answer)
				}
				if err != nil {
					errs[i] = err
					return
				}
				answers.Add(1)
			}
		})
	}
	all.Wait()
	return float64(answers.Load()) / time.Since(begin).Seconds(), errors.Join(errs...)
}

// tally is what came of a load.
type tally struct {
	sent, lost, failed int
	took               time.Duration
	times              []durations // by question
}

func (t tally) all() (all durations) {
	for _, d := range t.times {
		all = append(all, d...)
	}
	return all
}

// steadily asks so many queries a second until ctx ends, whether answers come or not: first question, second question, and so on.
// Times are from sending.
func steadily(ctx context.Context, server string, questions [][]byte, rate float64) (tally, error) {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return tally{}, err
	}
	defer conn.Close()
	if err := conn.(*net.UDPConn).SetReadBuffer(4 << 20); err != nil {
		return tally{}, err
	}
	begin := time.Now()
	// By ID, the nanosecond of sending since the beginning; 0: nothing is under way.
	sent := make([]atomic.Int64, 1<<16)
	result := tally{times: make([]durations, len(questions))}
	var reading sync.WaitGroup
	var failed error
	received := 0
	reading.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := conn.Read(buf)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return
			case err != nil:
				failed = err
				return
			case n < 12:
				continue
			}
			id := int(binary.BigEndian.Uint16(buf))
			at := sent[id].Swap(0)
			if at == 0 {
				continue
			}
			received++
			k := id % len(questions)
			if _, err := address(questions[k], buf[:n]); err != nil {
				result.failed++
				continue
			}
			result.times[k] = append(result.times[k], time.Duration(time.Since(begin).Nanoseconds()-at))
		}
	})
	// IDs of a multiple of the questions, so that an ID tells the question.
	ids := (1 << 16) / len(questions) * len(questions)
	tick := time.NewTicker(max(time.Millisecond, time.Duration(float64(time.Second)/rate)))
	defer tick.Stop()
	packet := make([]byte, 0, 512)
	for ctx.Err() == nil {
		for due := int(time.Since(begin).Seconds() * rate); result.sent < due; result.sent++ {
			id := result.sent % ids
			packet = append(packet[:0], questions[id%len(questions)]...)
			binary.BigEndian.PutUint16(packet, uint16(id))
			sent[id].Store(time.Since(begin).Nanoseconds())
			if _, err := conn.Write(packet); err != nil {
				return tally{}, err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	result.took = time.Since(begin)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return tally{}, err
	}
	reading.Wait()
	result.lost = result.sent - received
	return result, failed
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// webConn is one kept connection of HTTP, used by one goroutine: clients that share the processors with the server must not cost more
// than they have to, and net/http's has two goroutines for each connection.
type webConn struct {
	server string
	conn   net.Conn
	in     *bufio.Reader
	out    []byte
}

// do sends a request with a JSON body and reads its answer. head is further header lines, each with its end. When the server has closed the
// connection without a word, the request is sent once more: it must be one that can be.
func (w *webConn) do(method, path, head string, body []byte) error {
	kept := w.conn != nil
	err := w.once(method, path, head, body)
	if kept && errors.Is(err, io.ErrUnexpectedEOF) {
		err = w.once(method, path, head, body)
	}
	return err
}

func (w *webConn) once(method, path, head string, body []byte) (err error) {
	defer func() {
		var said *statusError
		if err != nil && !errors.As(err, &said) {
			w.close()
		}
	}()
	if w.conn == nil {
		if w.conn, err = net.DialTimeout("tcp", w.server, 10*time.Second); err != nil {
			return err
		}
		w.in = bufio.NewReader(w.conn)
	}
	if err := w.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	w.out = fmt.Appendf(w.out[:0], "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n", method, path, w.server, len(body), head)
	if _, err := w.conn.Write(append(w.out, body...)); err != nil {
		return err
	}
	res, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		return err
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.Close {
		w.close()
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %w", method, path, &statusError{res.StatusCode, string(text)})
	}
	return nil
}

func (w *webConn) close() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

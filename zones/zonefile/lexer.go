package zonefile

import (
	"bufio"
	"io"
)

// token is one item of an entry, escapes still in it.
type token struct {
	text         string
	quoted       bool
	glued        bool // nothing stands between it and the item before: key="value" is two items
	line, column int
}

// entry is one logical line of a master file: its items, comments dropped and parentheses resolved.
type entry struct {
	tokens []token
	indent bool // began with white space: the owner is the last one stated
	line   int
}

// lexer splits a file into entries (RFC 1035 §5.1).
type lexer struct {
	in           *bufio.Reader
	file         string
	line, column int // of the octet read last
	tokens       []token
	text         []byte // of the token being read
	size         int    // octets in the entry so far
	glued        bool   // the last item has just ended
}

// fileBuffer is how much of a file is read at once, in octets.
const fileBuffer = 64 << 10

func newLexer(r io.Reader, file string, buffer int) *lexer {
	return &lexer{in: bufio.NewReaderSize(r, buffer), file: file, line: 1}
}

func (l *lexer) fail(line, column int, msg string) error {
	return &Error{File: l.file, Line: line, Column: column, Msg: msg}
}

// next returns the next entry that has items; it is valid until the next call. io.EOF ends the file.
func (l *lexer) next() (entry, error) {
	for {
		e, err := l.read()
		if err != nil || len(e.tokens) > 0 {
			return e, err
		}
	}
}

func (l *lexer) read() (entry, error) {
	l.tokens, l.size, l.glued = l.tokens[:0], 0, false
	e := entry{line: l.line}
	depth, first := 0, true
	openLine, openColumn := 0, 0
	for {
		c, err := l.octet()
		if err == io.EOF {
			if depth > 0 {
				return e, l.fail(openLine, openColumn, "parenthesis is never closed")
			}
			e.tokens = l.tokens
			if len(l.tokens) == 0 {
				return e, io.EOF
			}
			return e, nil
		}
		if err != nil {
			return e, err
		}
		if first {
			e.indent = c == ' ' || c == '\t'
			first = false
		}
		if c != '"' && !isWordOctet(c) {
			l.glued = false
		}
		switch c {
		case '\n':
			if depth == 0 {
				e.tokens = l.tokens
				return e, nil
			}
		case ' ', '\t', '\r':
		case ';':
			if err := l.comment(); err != nil && err != io.EOF {
				return e, err
			}
		case '(':
			if depth == 0 {
				openLine, openColumn = l.line, l.column
			}
			depth++
		case ')':
			if depth--; depth < 0 {
				return e, l.fail(l.line, l.column, "closing parenthesis without an opening one")
			}
		case '"':
			if err := l.quoted(); err != nil {
				return e, err
			}
		default:
			if err := l.word(c); err != nil {
				return e, err
			}
		}
	}
}

// octet reads one octet and counts its place. The line number goes up with the octet after a line feed.
func (l *lexer) octet() (byte, error) {
	c, err := l.in.ReadByte()
	if err != nil {
		return 0, err
	}
	if l.size++; l.size > maxEntryLen {
		return 0, l.fail(l.line, l.column, "entry is too long: is a parenthesis or quote not closed?")
	}
	l.column++
	if c == '\n' {
		l.line, l.column = l.line+1, 0
	}
	return c, nil
}

// unread gives the last octet back. It must not be a line feed that was counted as part of a token.
func (l *lexer) unread(c byte) {
	_ = l.in.UnreadByte() // cannot fail: an octet was just read
	l.size--
	if c == '\n' {
		l.line--
	} else {
		l.column--
	}
}

// comment skips up to, not including, the line feed.
func (l *lexer) comment() error {
	for {
		c, err := l.in.ReadByte()
		if err != nil {
			return err
		}
		if c == '\n' {
			return l.in.UnreadByte()
		}
	}
}

// isWordOctet reports whether c may stand in an item without quotes.
func isWordOctet(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ';', '(', ')', '"':
		return false
	}
	return true
}

// end ends the item that was read.
func (l *lexer) end(quoted bool, line, column int) {
	l.tokens = append(l.tokens, token{string(l.text), quoted, l.glued, line, column})
	l.glued = true
}

func (l *lexer) word(c byte) error {
	line, column := l.line, l.column
	l.text = l.text[:0]
	for {
		if !isWordOctet(c) {
			l.unread(c)
			l.end(false, line, column)
			return nil
		}
		if c == '\\' {
			l.text = append(l.text, c)
			n, err := l.octet()
			if err == io.EOF || n == '\n' {
				return l.fail(line, column, "backslash at the end of a line")
			}
			if err != nil {
				return err
			}
			c = n
		}
		l.text = append(l.text, c)
		var err error
		if c, err = l.octet(); err == io.EOF {
			l.end(false, line, column)
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (l *lexer) quoted() error {
	line, column := l.line, l.column
	l.text = l.text[:0]
	for {
		c, err := l.octet()
		if err == io.EOF || c == '\n' {
			return l.fail(line, column, "quote is not closed on its line")
		}
		if err != nil {
			return err
		}
		switch c {
		case '"':
			l.end(true, line, column)
			return nil
		case '\\':
			l.text = append(l.text, c)
			if c, err = l.octet(); err == io.EOF || c == '\n' {
				return l.fail(line, column, "quote is not closed on its line")
			} else if err != nil {
				return err
			}
		}
		l.text = append(l.text, c)
	}
}

package gossip

import (
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// logs takes memberlist's log lines: on to ours by their level, and to the troubles what only a line says, since
// memberlist has no other way to tell. It is an io.Writer for the log package, which writes one line at a time.
type logs struct {
	logger   zerolog.Logger
	troubles *troubles
	now      func() time.Time
	closed   atomic.Bool
}

// close ends it: what memberlist says of its own end is of no use to anyone.
func (w *logs) close() { w.closed.Store(true) }

// newLogs lets at most so many warnings a second through: whoever can send packets could write logs otherwise.
func newLogs(logger zerolog.Logger, troubles *troubles, now func() time.Time) *logs {
	limit := func() zerolog.Sampler { return &zerolog.BurstSampler{Burst: 10, Period: time.Second} }
	return &logs{
		logger:   logger.Sample(zerolog.LevelSampler{InfoSampler: limit(), WarnSampler: limit(), ErrorSampler: limit()}),
		troubles: troubles, now: now,
	}
}

var (
	lineLevel   = regexp.MustCompile(`^\[([A-Z]+)\] `)
	lineFrom    = regexp.MustCompile(`from=(\S+)`)
	lineAtOther = regexp.MustCompile(`failed to join (\S+): remote error: `)
)

func (w *logs) Write(line []byte) (int, error) {
	if w.closed.Load() {
		return len(line), nil
	}
	text := strings.TrimSpace(string(line))
	level := zerolog.InfoLevel
	if m := lineLevel.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		switch m[1] {
		case "DEBUG":
			level = zerolog.DebugLevel
		case "WARN":
			level = zerolog.WarnLevel
		case "ERR", "ERROR":
			// None of memberlist's errors is an operator's task by itself: what lasts is a trouble.
			level = zerolog.WarnLevel
		}
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	if w.learn(text) {
		level = zerolog.DebugLevel // the trouble is what people are told, once
	}
	w.logger.WithLevel(level).Str("detail", text).Msg("gossip")
	return len(line), nil
}

// learn looks for senders that this node can't understand, or that can't understand it, and reports whether it made a trouble.
func (w *logs) learn(text string) bool {
	var sender string
	if m := lineFrom.FindStringSubmatch(text); m != nil {
		sender = m[1]
	} else if m := lineAtOther.FindStringSubmatch(text); m != nil {
		sender = m[1]
	} else {
		return false
	}
	if host, _, err := net.SplitHostPort(sender); err == nil {
		sender = host
	}
	switch {
	case strings.Contains(text, "unacceptable label"):
		w.troubles.stranger(sender, strangeLabel, w.now())
	case strings.Contains(text, "Decrypt packet failed"), strings.Contains(text, "no installed keys could decrypt"),
		strings.Contains(text, "is not encrypted"), strings.Contains(text, "encryption is not configured"):
		w.troubles.stranger(sender, strangeKey, w.now())
	default:
		return false
	}
	return true
}

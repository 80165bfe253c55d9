package secondary

import (
	"context"
	"encoding/binary"
	"iter"
	"math/rand/v2"
	"time"

	"balefire/store"
	"balefire/zones"
)

// Zone is a hosted zone at one position. It is for one goroutine, and is closed when it is not read any more.
type Zone interface {
	// Info is what is known of it without reading its RRsets.
	Info() store.ZoneInfo
	// RRset returns one RRset; ok is false when it is not there.
	RRset(owner zones.Name, key zones.Key) (set zones.RRset, ok bool, err error)
	// All yields every RRset in the order of zones.CompareRRsets. It is whole when it ends without an error.
	All(ctx context.Context) iter.Seq2[zones.RRset, error]
	Close()
}

// Zones is what this node hosts.
type Zones interface {
	// Open opens a zone at the newest position that can be read; store.ErrNoZone when it is not hosted.
	Open(apex zones.Name) (Zone, error)
}

// StoreZones are the zones of a store.
type StoreZones struct{ Store *store.Store }

// Open implements Zones.
func (s StoreZones) Open(apex zones.Name) (Zone, error) {
	r, err := s.Store.Read(apex)
	if err != nil {
		return nil, err
	}
	return reading{r}, nil
}

type reading struct{ *store.Reading }

func (r reading) Info() store.ZoneInfo { return r.Reading.Info }

// Timing bounds what a zone's SOA may ask for. Zero fields have defaults.
type Timing struct {
	MinRefresh time.Duration // default 1 minute
	MaxRefresh time.Duration // default 4 weeks
	MinRetry   time.Duration // default 30 seconds
	MaxRetry   time.Duration // default 2 weeks
	// First and MaxFirst are when it is tried again to fetch a zone of which there is nothing yet: twice as long after each try. Defaults 10
	// seconds and an hour.
	First, MaxFirst time.Duration
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.MinRefresh, time.Minute},
		{&t.MaxRefresh, 28 * 24 * time.Hour},
		{&t.MinRetry, 30 * time.Second},
		{&t.MaxRetry, 14 * 24 * time.Hour},
		{&t.First, 10 * time.Second},
		{&t.MaxFirst, time.Hour},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return t
}

// timers are what a SOA asks for (RFC 1035 §3.3.13), within bounds.
type timers struct{ refresh, retry, expire time.Duration }

// of reads the timers of a SOA. Of no SOA, they are those of a zone of which there is nothing yet.
func (t Timing) of(soa zones.RRset) timers {
	rdata := soa.First()
	if len(rdata) < 20 {
		return timers{refresh: t.First, retry: t.First}
	}
	seconds := func(at int) time.Duration {
		return time.Duration(binary.BigEndian.Uint32(rdata[len(rdata)-at:])) * time.Second
	}
	got := timers{
		refresh: min(max(seconds(16), t.MinRefresh), t.MaxRefresh), retry: min(max(seconds(12), t.MinRetry), t.MaxRetry), expire: seconds(8),
	}
	// A zone that expires before it could be tried again would come and go.
	got.expire = max(got.expire, got.refresh+got.retry)
	return got
}

// confirmEach is how old a confirmation in the log may become: a part of the time in which the zone expires, so that this is what a new
// start may forget.
func (t timers) confirmEach() time.Duration { return t.expire / 8 }

// jitter is a time up to an eighth less, so that what began together does not stay so.
func jitter(d time.Duration) time.Duration {
	if d < 8 {
		return d
	}
	return d - rand.N(d/8)
}

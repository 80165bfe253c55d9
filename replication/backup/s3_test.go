//go:build s3

package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"balefire/replication/backup"
	"balefire/replication/objectstore"
	"balefire/replication/s3test"
	"balefire/store/storetest"
	"balefire/zones"
)

func openS3(t testing.TB, url string) objectstore.Store {
	t.Helper()
	s, err := objectstore.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// noise adds zones of text that can't be compressed, so that snapshots have some octets.
func (s *site) noise(rng *rand.Rand, octets int) {
	for n := 0; n < octets; {
		apex := fmt.Sprintf("noise%d.", len(s.l.Records))
		sets := storetest.Apex(apex, 1)
		for i := range 100 {
			text := make([]byte, 0, 1000)
			for range 4 {
				text = fmt.Appendf(text, "%q ", fmt.Sprintf("%016x%016x%016x%016x%016x%016x", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64()))
			}
			sets = append(sets, storetest.Set(fmt.Sprintf("n%d.%s", i, apex), 60, zones.TypeTXT, string(bytes.TrimSpace(text))))
			n += len(text)
		}
		s.l.Add(s.t, storetest.Change(apex, zones.OpCreateZone{RRsets: sets}))
	}
	s.apply()
}

// TestS3 makes and restores a chain on a real server, in parts and in one.
func TestS3(t *testing.T) {
	server := s3test.Start(t)
	s := newSite(t, options(t, openS3(t, server.URL(""))), &storetest.Log{})
	rng := rand.New(rand.NewPCG(1, 3))
	s.noise(rng, 24<<20)
	if m := s.save(); m.Size < 9<<20 {
		t.Errorf("%d octets fit one part", m.Size)
	}
	s.change(rng, 10)
	s.save()
	s.change(rng, 10)
	m := s.save()
	if m.Length != 2 {
		t.Errorf("a chain of %d", m.Length+1)
	}
	if err := s.b.Verify(t.Context(), m); err != nil {
		t.Error(err)
	}
}

// TestS3CutConnections: uploads that are cut leave no backup; downloads that are cut go on, and never bring something else.
func TestS3CutConnections(t *testing.T) {
	server := s3test.Start(t)
	through := s3test.NewCutter(t, server.Address())
	s := newSite(t, options(t, openS3(t, server.URL(through.Address()))), &storetest.Log{})
	rng := rand.New(rand.NewPCG(2, 3))
	s.noise(rng, 1<<20)
	for _, after := range []int64{100, 5_000, 100_000} {
		through.CutUploadsAfter(after)
		if m, err := s.b.Save(t.Context(), s.p, 0); err == nil && m.Size > uint64(after) {
			t.Errorf("uploads cut after %d octets, and a backup of %d was made", after, m.Size)
		}
		through.CutUploadsAfter(1 << 60)
		if found, bad, err := s.b.List(t.Context(), 0); len(found)+len(bad) > 0 || err != nil {
			t.Errorf("uploads cut after %d octets: %v, %v, %v", after, found, bad, err)
		}
	}
	m := s.save()
	for _, after := range []int64{2_000, 20_000, 200_000} {
		through.CutAfter(after)
		dir := filepath.Join(t.TempDir(), "restored")
		err := s.b.RestoreInto(t.Context(), dir, m)
		if errors.Is(err, backup.ErrDamaged) || err != nil && after == 200_000 {
			t.Errorf("downloads cut after %d octets: %v", after, err)
		}
	}
	through.CutAfter(1 << 60)
	restored(t, s.b, m, s.l)
}

// TestS3ServerDies: the server is killed while a snapshot goes up, and comes back.
func TestS3ServerDies(t *testing.T) {
	server := s3test.Start(t)
	objects := &racing{Store: openS3(t, server.URL(""))}
	s := newSite(t, options(t, objects), &storetest.Log{})
	rng := rand.New(rand.NewPCG(3, 3))
	s.noise(rng, 1<<20)
	first := s.save()
	s.change(rng, 10)
	objects.before = server.Kill
	if _, err := s.b.Save(t.Context(), s.p, 0); err == nil {
		t.Error("a backup in a server that is dead")
	}
	server.Restart()
	if newest, err := s.b.Newest(t.Context(), 0); err != nil || newest.Number != first.Number {
		t.Errorf("newest is %+v, %v", newest, err)
	}
	m := s.save()
	if m.Follows != first.Number {
		t.Errorf("it follows %d", m.Follows)
	}
	restored(t, s.b, m, s.l)
}

func TestS3Denies(t *testing.T) {
	server := s3test.Start(t)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-it")
	s := newSite(t, options(t, openS3(t, server.URL(""))), &storetest.Log{})
	s.change(rand.New(rand.NewPCG(4, 3)), 10)
	if _, err := s.b.Save(t.Context(), s.p, 0); !errors.Is(err, objectstore.ErrDenied) {
		t.Errorf("saved: %v", err)
	}
	if _, err := s.b.Newest(t.Context(), 0); !errors.Is(err, objectstore.ErrDenied) || errors.Is(err, backup.ErrNone) {
		t.Errorf("newest: %v", err)
	}
}

package crashtest

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var cuts = flag.Int("cuts", 20, "rounds of power cuts under load")

// When the power goes, only what was synced is on the disk. The data directory is on an ext4 file system in
// a file, whose journal is not committed but by fsync; the process is stopped, the file copied as it then
// is, and the copy mounted: all that was written but not synced is gone. It needs root, for mounting.
func TestPowerCuts(t *testing.T) {
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 1))
	disk := newDisk(t)
	l := newLedger()
	p := start(t, disk.dataDir())
	for z := range zoneCount {
		p.createZone(apexOf(z))
	}
	for round := range *cuts {
		before := l.acked.Load()
		ctx, cancel := context.WithCancel(t.Context())
		done := l.write(ctx, t, p)
		l.awaitKillMoment(t, before, time.Duration(rng.IntN(150_000))*time.Microsecond)
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		next := disk.cutPower(t)
		p.Kill()
		cancel()
		done.Wait()
		disk.unmount(t)
		disk = next
		if t.Failed() {
			t.Fatalf("round %d\n%s", round, p.Log())
		}
		p = start(t, disk.dataDir())
		l.checkDNS(t, p)
		if t.Failed() {
			t.Fatalf("round %d\n%s", round, p.Log())
		}
	}
	p.Kill()
	t.Logf("%d changes acknowledged over %d power cuts", l.acked.Load(), *cuts)
	l.checkLog(t, disk.dataDir())
}

// disk is an ext4 file system in a file.
type disk struct {
	image, mount string
	device       string // the loop device's name
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	// Memory holds the image, so that copies are quick and nothing but the journal's rules decides what is in it.
	folder, err := os.MkdirTemp("/dev/shm", "balefire-powercut")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	d := &disk{image: filepath.Join(folder, "0.img")}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(2 << 30); err != nil {
		t.Fatal(err)
	}
	f.Close()
	command(t, "mkfs.ext4", "-q", "-m", "0", d.image)
	d.attach(t)
	return d
}

func (d *disk) dataDir() string { return filepath.Join(d.mount, "data") }

// attach mounts the image. The journal is committed by fsync alone for as long as a round takes.
func (d *disk) attach(t *testing.T) {
	t.Helper()
	d.mount = t.TempDir()
	command(t, "mount", "-o", "loop,commit=300", d.image, d.mount)
	t.Cleanup(func() {
		if d.mount != "" {
			_ = exec.Command("umount", "-l", d.mount).Run() // the test has failed before
		}
	})
	d.device = filepath.Base(strings.TrimSpace(command(t, "findmnt", "-n", "-o", "SOURCE", d.mount)))
}

// cutPower returns a mounted copy of what is on the disk now. The process that writes is stopped.
func (d *disk) cutPower(t *testing.T) *disk {
	t.Helper()
	d.awaitIdle(t)
	copied := &disk{image: d.image + "x"}
	command(t, "cp", "--sparse=always", d.image, copied.image)
	copied.attach(t)
	return copied
}

// awaitIdle waits until the device has no requests: an fsync that was under way in the kernel when the
// process was stopped has ended.
func (d *disk) awaitIdle(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last, same := "", 0
	for range 1000 {
		<-tick.C
		stat, err := os.ReadFile(filepath.Join("/sys/block", d.device, "stat"))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(stat))
		if string(stat) == last && f[8] == "0" {
			if same++; same == 5 {
				return
			}
			continue
		}
		last, same = string(stat), 0
	}
	t.Fatal("the device never became idle")
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	command(t, "umount", d.mount)
	d.mount = ""
	if err := os.Remove(d.image); err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Transfer asks for a zone, and takes it as fast as it comes. It looks at nothing but how many records each message says it has.
type Transfer struct {
	Server  netip.AddrPort // IPv4
	Query   []byte
	Records int // in all, after which it is over
	CPU     int // processor, −1 for any
}

// Transferred is what came.
type Transferred struct {
	Octets, Messages, Records int           // octets with the length before each message
	Elapsed                   time.Duration // from the query to the end
	CPU                       time.Duration // of who takes it
}

// transferPatience is how long nothing may come.
const transferPatience = time.Minute

// Run does one transfer. It is an error when there are more records than expected, or an RCODE.
func (t Transfer) Run() (got Transferred, err error) {
	got.CPU, err = onThread(t.CPU, func() error { return t.take(&got) })
	return got, err
}

func (t Transfer) take(got *Transferred) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(int64(transferPatience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(t.Server.Port()), Addr: t.Server.Addr().As4()}); err != nil {
		return fmt.Errorf("connect to %s: %w", t.Server, err)
	}
	begin := time.Now()
	if _, err := unix.Write(fd, append(binary.BigEndian.AppendUint16(nil, uint16(len(t.Query))), t.Query...)); err != nil {
		return err
	}
	const frame, header = 2, 12
	buf := make([]byte, 1<<20)
	held := 0 // octets at the beginning of buf, of which no message is whole
	for got.Records < t.Records {
		n, err := unix.Read(fd, buf[held:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("after %d records: %w", got.Records, err)
		}
		if n == 0 {
			return fmt.Errorf("the connection ends after %d records of %d", got.Records, t.Records)
		}
		got.Octets += n
		data := buf[:held+n]
		for len(data) >= frame+header {
			size := int(binary.BigEndian.Uint16(data))
			if size < header {
				return errors.New("what comes is no message")
			}
			if len(data) < frame+size {
				break
			}
			if rcode := data[frame+3] & 15; rcode != 0 {
				return fmt.Errorf("RCODE %d after %d records", rcode, got.Records)
			}
			got.Messages++
			got.Records += int(binary.BigEndian.Uint16(data[frame+6:]))
			data = data[frame+size:]
		}
		held = copy(buf, data)
	}
	got.Elapsed = time.Since(begin)
	if got.Records > t.Records {
		return fmt.Errorf("%d records, not %d", got.Records, t.Records)
	}
	return nil
}

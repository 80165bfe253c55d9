package load

import (
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

const echoBatch = 32

// Echo sends every packet that comes to an address back to where it came from, with QR set: the least that a server on UDP sockets
// can do. It takes over its process, for it stops garbage collection and waits in raw system calls, and ends with it.
func Echo(addr netip.AddrPort) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // a collection would wait for the thread that waits for packets
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20) // capped by the kernel
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		return fmt.Errorf("listen at %s: %w", addr, err)
	}
	b := newBatch(echoBatch)
	names := make([]unix.RawSockaddrInet4, echoBatch)
	for i := range b.msgs {
		b.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&names[i]))
	}
	for {
		for i := range b.msgs {
			b.msgs[i].hdr.Namelen = uint32(unsafe.Sizeof(names[i]))
			b.iovs[i].SetLen(maxMessage)
		}
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), echoBatch, unix.MSG_WAITFORONE, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("recvmmsg: %w", errno)
		}
		for i := range int(n) {
			b.message(i)[2] |= 0x80
			b.iovs[i].SetLen(int(b.msgs[i].len))
		}
		for sent := 0; sent < int(n); {
			k, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[sent])), n-uintptr(sent), 0, 0, 0)
			if errno == unix.EINTR {
				continue
			}
			if errno != 0 {
				break // a client that has gone; the others' answers go with it, as with any server
			}
			sent += int(k)
		}
	}
}

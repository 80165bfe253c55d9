package load

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const maxMessage = 4096

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batch is memory for messages of one system call, all in one block.
type batch struct {
	msgs []mmsghdr
	iovs []unix.Iovec
	data []byte
}

func newBatch(n int) *batch {
	b := &batch{make([]mmsghdr, n), make([]unix.Iovec, n), make([]byte, n*maxMessage)}
	for i := range b.msgs {
		b.iovs[i].Base = &b.data[i*maxMessage]
		b.iovs[i].SetLen(maxMessage)
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

func (b *batch) message(i int) []byte { return b.data[i*maxMessage : (i+1)*maxMessage] }

// transfer receives or sends the first n messages of a batch without blocking; nothing to do is 0 messages. A refused
// port, which the kernel reports for an earlier message, is nothing to do either.
func (b *batch) transfer(call uintptr, fd, n int) (int, error) {
	done, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return int(done), nil
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED:
		return 0, nil
	}
	return 0, errno
}

package sealedkeys

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// ioctl numbers of the guest drivers (include/uapi/linux/tdx-guest.h and
// sev-guest.h).
const (
	tdxGetReport     = 0xc4405401
	sevGetDerivedKey = 0xc0205301
)

// TDReport asks the TDX module for a report of this guest that binds data.
func TDReport(_ context.Context, data [64]byte) ([]byte, error) {
	var req struct {
		data   [64]byte
		report [ReportSize]byte
	}
	req.data = data
	if err := ioctl("/dev/tdx_guest", tdxGetReport, unsafe.Pointer(&req)); err != nil {
		return nil, fmt.Errorf("sealedkeys: no report of a TDX guest: %w", err)
	}
	return req.report[:], nil
}

// derivedKey asks the processor of an SEV-SNP guest.
func derivedKey(_ context.Context, request [32]byte) (answer [DerivedKeySize]byte, err error) {
	const messageVersion = 1
	req := struct {
		version  uint8
		_        [7]byte
		request  unsafe.Pointer
		response unsafe.Pointer
		exit     uint64
	}{version: messageVersion, request: unsafe.Pointer(&request), response: unsafe.Pointer(&answer)}
	err = ioctl("/dev/sev-guest", sevGetDerivedKey, unsafe.Pointer(&req))
	runtime.KeepAlive(&request)
	if err != nil {
		return answer, fmt.Errorf("%w: %w (exit information %#x)", ErrProcessor, err, req.exit)
	}
	return answer, nil
}

func ioctl(device string, number uintptr, arg unsafe.Pointer) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), number, uintptr(arg)); errno != 0 {
		return os.NewSyscallError("ioctl "+device, errno)
	}
	return nil
}

// DialVSOCK connects to a VSOCK port. The kernel itself gives up after two
// seconds.
func DialVSOCK(cid, port uint32) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		const afVSOCK = 40
		fd, err := syscall.Socket(afVSOCK, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("VSOCK (has this machine a virtio VSOCK device?): %w", os.NewSyscallError("socket", err))
		}
		// struct sockaddr_vm: family, 0, port, cid, zeros.
		var addr [16]byte
		binary.NativeEndian.PutUint16(addr[:], afVSOCK)
		binary.NativeEndian.PutUint32(addr[4:], port)
		binary.NativeEndian.PutUint32(addr[8:], cid)
		_, _, errno := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&addr)), unsafe.Sizeof(addr))
		if errno != 0 {
			err = os.NewSyscallError("connect", errno)
		} else {
			err = errors.Join(os.NewSyscallError("fcntl", syscall.SetNonblock(fd, true)), ctx.Err())
		}
		if err != nil {
			syscall.Close(fd)
			return nil, fmt.Errorf("VSOCK %d:%d: %w", cid, port, err)
		}
		return &vsock{os.NewFile(uintptr(fd), "vsock"), vsockAddr{cid, port}}, nil
	}
}

// vsock is a VSOCK connection; os.File brings deadlines.
type vsock struct {
	*os.File
	remote vsockAddr
}

type vsockAddr struct{ cid, port uint32 }

func (vsockAddr) Network() string { return "vsock" }
func (a vsockAddr) String() string {
	return strconv.FormatUint(uint64(a.cid), 10) + ":" + strconv.FormatUint(uint64(a.port), 10)
}

func (v *vsock) LocalAddr() net.Addr  { return vsockAddr{} }
func (v *vsock) RemoteAddr() net.Addr { return v.remote }

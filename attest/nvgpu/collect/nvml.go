//go:build nvml

package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

// From NVIDIA's NVML API reference (confidential computing queries).
typedef struct { unsigned chainSize, attestationSize; unsigned char chain[0x1000], attestation[0x1400]; } certificates;
typedef struct { unsigned cecPresent, size, cecSize; unsigned char nonce[32], report[0x2000], cecReport[0x1000]; } evidence;

static void *library;
static int (*initialize)(void), (*finish)(void), (*count)(unsigned *), (*handle)(unsigned, void **);
static int (*certificatesOf)(void *, certificates *), (*evidenceOf)(void *, evidence *);

// load returns the name of what is missing; NULL if nothing is.
static const char *load(void) {
	if (!(library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL))) return "libnvidia-ml.so.1";
	struct { void **to; const char *name; } all[] = {
		{(void **)&initialize, "nvmlInit_v2"}, {(void **)&finish, "nvmlShutdown"},
		{(void **)&count, "nvmlDeviceGetCount_v2"}, {(void **)&handle, "nvmlDeviceGetHandleByIndex_v2"},
		{(void **)&certificatesOf, "nvmlDeviceGetConfComputeGpuCertificate"},
		{(void **)&evidenceOf, "nvmlDeviceGetConfComputeGpuAttestationReport"},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!(*all[i].to = dlsym(library, all[i].name))) return all[i].name;
	return NULL;
}

static int nvInit(void) { return initialize(); }
static int nvShutdown(void) { return finish(); }
static int nvCount(unsigned *n) { return count(n); }
static int nvHandle(unsigned i, void **d) { return handle(i, d); }
static int nvCertificates(void *d, certificates *c) { return certificatesOf(d, c); }
static int nvEvidence(void *d, evidence *e) { return evidenceOf(d, e); }
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cocoon-network/cocoon/attest/nvgpu"
)

// gpu is a device of the library.
type gpu struct{ handle unsafe.Pointer }

// open loads the driver's library and lists its GPUs.
func open() ([]device, func(), error) {
	if missing := C.load(); missing != nil {
		return nil, nil, fmt.Errorf("%s is missing: is the NVIDIA driver installed, and new enough for confidential computing?", C.GoString(missing))
	}
	if err := status("initialising", C.nvInit()); err != nil {
		return nil, nil, err
	}
	end := func() { C.nvShutdown() }
	var n C.uint
	if err := status("counting the GPUs", C.nvCount(&n)); err != nil {
		end()
		return nil, nil, err
	}
	if n > nvgpu.MaxGPUs {
		end()
		return nil, nil, fmt.Errorf("%d GPUs, at most %d", n, nvgpu.MaxGPUs)
	}
	var all []device
	for i := range n {
		var d gpu
		if err := status("opening a GPU", C.nvHandle(i, &d.handle)); err != nil {
			end()
			return nil, nil, err
		}
		all = append(all, d)
	}
	return all, end, nil
}

// status names the returns of NVML that a person can do something about.
func status(doing string, code C.int) error {
	switch code {
	case 0:
		return nil
	case 3:
		return fmt.Errorf("%s: not supported: is the GPU in confidential-computing mode?", doing)
	case 4:
		return fmt.Errorf("%s: no permission: may this user open /dev/nvidia*?", doing)
	case 9:
		return fmt.Errorf("%s: the driver is not loaded", doing)
	}
	return fmt.Errorf("%s: NVML says %d", doing, int(code))
}

var errSize = errors.New("the driver gives more bytes than its own interface allows")

func (d gpu) report(nonce [32]byte) ([]byte, error) {
	var e C.evidence
	C.memcpy(unsafe.Pointer(&e.nonce[0]), unsafe.Pointer(&nonce[0]), C.size_t(len(nonce)))
	if err := status("asking for the report", C.nvEvidence(d.handle, &e)); err != nil {
		return nil, err
	}
	if int(e.size) > len(e.report) {
		return nil, errSize
	}
	return C.GoBytes(unsafe.Pointer(&e.report[0]), C.int(e.size)), nil
}

func (d gpu) chain() ([]byte, error) {
	var c C.certificates
	if err := status("asking for the certificates", C.nvCertificates(d.handle, &c)); err != nil {
		return nil, err
	}
	if int(c.attestationSize) > len(c.attestation) {
		return nil, errSize
	}
	return C.GoBytes(unsafe.Pointer(&c.attestation[0]), C.int(c.attestationSize)), nil
}

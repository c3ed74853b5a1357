//go:build e2e

package drill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// way is what the fabric does with the packets of one direction between two ports.
type way uint32

const (
	wayOpen  way = iota
	wayCut       // every packet vanishes
	wayLossy     // lossPercent of the packets vanish
	wayReset     // TCP is answered with a reset, the rest vanishes
)

const (
	lossPercent = 30
	mtu         = 9000
	maxPorts    = 32
)

// fabric is the network between the nodes: every port is a TUN device, in the node's namespace or (port 0, the clients') in the
// test's own, and this process carries the packets from one to the other. No kernel module is needed to lose a packet, and
// the devices and routes are gone with the process, however it ends.
type fabric struct {
	t    *testing.T
	id   int // the third byte of all addresses, so that two tests on one machine do not meet
	seed uint64
	mu   sync.Mutex
	dev  [maxPorts]*os.File
	ways [maxPorts][maxPorts]atomic.Uint32
	wg   sync.WaitGroup
}

// addr is the address of a port, in the range that RFC 2544 sets apart for tests.
func (f *fabric) addr(port int) string { return fmt.Sprintf("198.18.%d.%d", f.id, port+1) }

// newFabric makes the switch and the clients' port, or skips the test where that is not possible.
func newFabric(t *testing.T) *fabric {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces need root")
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: no %s (iproute2, util-linux) on this machine", tool)
		}
	}
	f := &fabric{t: t, seed: uint64(os.Getpid())}
	var err error
	for try := range 250 {
		f.id = (os.Getpid() + try) % 250
		// A test that was killed leaves its namespaces behind: their numbers are taken, too.
		old, _ := filepath.Glob("/run/netns/" + f.namespace(1))
		if _, there := os.Stat("/sys/class/net/" + f.device(0)); there == nil || len(old) > 0 {
			err = fmt.Errorf("%s is there: %w", f.device(0), os.ErrExist)
		} else {
			err = f.plug(0, "")
		}
		if err == nil {
			t.Cleanup(f.close)
			return f
		}
		if !errors.Is(err, os.ErrExist) && !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	t.Skipf("SKIPPED: no TUN device can be made here: %v", err)
	return nil
}

func (f *fabric) device(port int) string    { return fmt.Sprintf("cdr%d.%d", f.id, port) }
func (f *fabric) namespace(port int) string { return fmt.Sprintf("cairn-drill-%d-%d", f.id, port) }

// join makes a namespace with the port's device in it and returns the namespace's name.
func (f *fabric) join(port int) string {
	f.t.Helper()
	ns := f.namespace(port)
	if err := run("ip", "netns", "add", ns); err != nil {
		f.t.Skipf("SKIPPED: no network namespaces here: %v", err)
	}
	f.t.Cleanup(func() {
		if err := run("ip", "netns", "delete", ns); err != nil {
			f.t.Error(err)
		}
	})
	if err := f.plug(port, ns); err != nil {
		f.t.Fatal(err)
	}
	return ns
}

// plug makes a port's device, moves it to its namespace ("": it stays), and begins to carry what comes out of it.
func (f *fabric) plug(port int, ns string) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	name := f.device(port)
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	// The order matters: a device loses its addresses when it moves.
	in := []string{"ip"}
	var steps [][]string
	if ns != "" {
		steps = append(steps, []string{"ip", "link", "set", name, "netns", ns})
		in = []string{"ip", "-n", ns}
		steps = append(steps, append(in[:3:3], "link", "set", "lo", "up"))
	}
	steps = append(steps, append(in[:len(in):len(in)], "addr", "add", f.addr(port)+"/24", "dev", name),
		append(in[:len(in):len(in)], "link", "set", name, "mtu", fmt.Sprint(mtu), "txqueuelen", "2000", "up"))
	for _, s := range steps {
		if err := run(s[0], s[1:]...); err != nil {
			unix.Close(fd)
			return err
		}
	}
	dev := os.NewFile(uintptr(fd), name)
	f.mu.Lock()
	f.dev[port] = dev
	f.mu.Unlock()
	f.wg.Go(func() { f.carry(port, dev) })
	return nil
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

// close ends the carrying; the devices vanish with their files.
func (f *fabric) close() {
	f.mu.Lock()
	for _, d := range f.dev {
		if d != nil {
			d.Close()
		}
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// set decides about the packets from one port to another.
func (f *fabric) set(from, to int, w way) { f.ways[from][to].Store(uint32(w)) }

// setAll decides about what a port sends and what it is sent.
func (f *fabric) setAll(port int, out, in way) {
	for other := range maxPorts {
		if other != port {
			f.set(port, other, out)
			f.set(other, port, in)
		}
	}
}

// carry takes packets from one port's device to the others until it is closed.
func (f *fabric) carry(from int, dev *os.File) {
	rng := rand.New(rand.NewPCG(f.seed, uint64(from)))
	p := make([]byte, mtu+64)
	for {
		n, err := dev.Read(p)
		if err != nil {
			return
		}
		to, ok := f.portOf(p[:n])
		if !ok {
			continue
		}
		switch way(f.ways[from][to].Load()) {
		case wayCut:
			continue
		case wayLossy:
			if rng.IntN(100) < lossPercent {
				continue
			}
		case wayReset:
			if answer := reset(p[:n]); answer != nil {
				f.deliver(from, answer)
			}
			continue
		}
		f.deliver(to, p[:n])
	}
}

// deliver hands a packet to a port's device. What the device does not take is lost, as on any wire.
func (f *fabric) deliver(port int, p []byte) {
	f.mu.Lock()
	dev := f.dev[port]
	f.mu.Unlock()
	if dev != nil {
		dev.Write(p)
	}
}

const (
	ipHeader  = 20
	tcpHeader = 20
)

// portOf tells where an IPv4 packet is to go.
func (f *fabric) portOf(p []byte) (int, bool) {
	if len(p) < ipHeader || p[0]>>4 != 4 || p[18] != byte(f.id) {
		return 0, false
	}
	port := int(p[19]) - 1
	return port, port >= 0 && port < maxPorts
}

// reset is the answer of a host that knows of no such connection (RFC 9293, 3.10.7.1); nil if p is no TCP or a reset itself.
func reset(p []byte) []byte {
	const fin, syn, rst, ack = 1, 2, 4, 16
	head := int(p[0]&15) * 4
	if len(p) < head+tcpHeader || p[9] != unix.IPPROTO_TCP || p[head+13]&rst != 0 {
		return nil
	}
	be := binary.BigEndian
	tcp := p[head:]
	size := uint32(len(tcp) - int(tcp[12]>>4)*4)
	if tcp[13]&(syn|fin) != 0 {
		size++
	}
	a := make([]byte, ipHeader+tcpHeader)
	a[0], a[8], a[9] = 0x45, 64, unix.IPPROTO_TCP
	be.PutUint16(a[2:], uint16(len(a)))
	copy(a[12:16], p[16:20])
	copy(a[16:20], p[12:16])
	be.PutUint16(a[10:], ^sum(0, a[:ipHeader]))
	t := a[ipHeader:]
	copy(t[0:2], tcp[2:4])
	copy(t[2:4], tcp[0:2])
	t[12] = tcpHeader / 4 << 4
	if tcp[13]&ack != 0 {
		copy(t[4:8], tcp[8:12])
		t[13] = rst
	} else {
		be.PutUint32(t[8:], be.Uint32(tcp[4:])+size)
		t[13] = rst | ack
	}
	// The checksum covers a pseudo header: both addresses, the protocol, the length.
	pseudo := sum(0, a[12:20])
	pseudo = sum(pseudo, []byte{0, unix.IPPROTO_TCP, 0, tcpHeader})
	be.PutUint16(t[16:], ^sum(pseudo, t))
	return a
}

// sum is the Internet checksum's sum over an even number of bytes (RFC 1071).
func sum(from uint16, p []byte) uint16 {
	s := uint32(from)
	for i := 0; i+1 < len(p); i += 2 {
		s += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// The resets that the fabric makes up have right checksums: the sum over each covered part with its checksum is all ones.
func TestResetIsWellFormed(t *testing.T) {
	syn := make([]byte, ipHeader+tcpHeader)
	syn[0], syn[9] = 0x45, unix.IPPROTO_TCP
	copy(syn[12:], netip.MustParseAddr("198.18.0.1").AsSlice())
	copy(syn[16:], netip.MustParseAddr("198.18.0.2").AsSlice())
	tcp := syn[ipHeader:]
	binary.BigEndian.PutUint16(tcp[0:], 4321)
	binary.BigEndian.PutUint16(tcp[2:], 9000)
	binary.BigEndian.PutUint32(tcp[4:], 77)
	tcp[12], tcp[13] = tcpHeader/4<<4, 2
	a := reset(syn)
	if len(a) != ipHeader+tcpHeader {
		t.Fatalf("got %x", a)
	}
	if got := sum(0, a[:ipHeader]); got != 0xffff {
		t.Errorf("sum of the IP header %#x", got)
	}
	pseudo := sum(sum(0, a[12:20]), []byte{0, unix.IPPROTO_TCP, 0, tcpHeader})
	if got := sum(pseudo, a[ipHeader:]); got != 0xffff {
		t.Errorf("sum of the TCP header %#x", got)
	}
	if got := binary.BigEndian.Uint32(a[ipHeader+8:]); got != 78 {
		t.Errorf("acknowledges %d, want 78", got)
	}
	if reset(a) != nil {
		t.Error("a reset is answered with a reset")
	}
}

// Package process runs the real cairn binary as a child process: the benchmark suite and the end-to-end tests do.
//
// It owns the child's life (started with free ports, waited for, stopped by its process ID and no other) and reads what
// the kernel counts of it. It knows of the server only what a person sees: flags, environment, and the lines that it prints
// once it takes writes.
package process

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// AccessKey and SecretKey are the root credentials of servers started here.
	AccessKey = "cairn-test-root"
	SecretKey = "cairn-test-root-secret"

	startTimeout = 30 * time.Second
	stopTimeout  = 40 * time.Second
	tailBytes    = 64 << 10
)

// Server is a running server process. Its methods are for one goroutine; the addresses do not change.
type Server struct {
	S3Addr    string // host:port
	AdminAddr string
	cmd       *exec.Cmd
	log       *tail
	exited    chan struct{}
	err       error // of Wait, after exited is closed
}

// Options of Start.
type Options struct {
	Binary string
	Args   []string // behind "server"; the addresses are added unless given
	// Prefix is a command that becomes the binary by exec, e.g. nsenter --net=FILE, so that the process keeps its ID; nil: none.
	Prefix []string
	Within time.Duration // for it to be ready; default 30 s
	Env    []string      // added to a bare environment with the root credentials
	Log    io.Writer
}

// Start runs the server and returns when it takes writes. If it does not, the error holds the end of its log.
func Start(ctx context.Context, o Options) (*Server, error) {
	args := append([]string{"server"}, o.Args...)
	for _, flag := range []string{"--s3-addr", "--admin-addr"} {
		if !hasFlag(args, flag) {
			args = append(args, flag, "127.0.0.1:0")
		}
	}
	line := slices.Concat(o.Prefix, []string{o.Binary}, args)
	s := &Server{cmd: exec.Command(line[0], line[1:]...), log: &tail{also: o.Log}, exited: make(chan struct{})}
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "CAIRN_ROOT_ACCESS_KEY=" + AccessKey,
		"CAIRN_ROOT_SECRET_KEY=" + SecretKey}, o.Env...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// The child dies with us, however we end.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go s.follow(out, ready)
	timer := time.NewTimer(cmp.Or(o.Within, startTimeout))
	defer timer.Stop()
	select {
	case <-ready:
		return s, nil
	case <-s.exited:
		return nil, fmt.Errorf("the server ended (%v) before it was ready: %s", s.err, s.log)
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = errors.New("the server was not ready in time")
	}
	s.Kill()
	return nil, fmt.Errorf("%w: %s", err, s.log)
}

func hasFlag(args []string, flag string) bool {
	for _, a := range args {
		if a == flag || strings.HasPrefix(a, flag+"=") {
			return true
		}
	}
	return false
}

// follow reads the child's output to its end, and then its exit status.
func (s *Server) follow(out io.Reader, ready chan struct{}) {
	defer close(s.exited)
	for sc := bufio.NewScanner(out); sc.Scan(); {
		name, value, _ := strings.Cut(sc.Text(), " ")
		value, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(value), "http://"), " ")
		switch {
		case name == "S3":
			s.S3Addr = value
		case name == "admin" && s.AdminAddr == "":
			s.AdminAddr = value
			close(ready)
		}
	}
	s.err = s.cmd.Wait()
}

// PID is the process's ID.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Endpoint is the S3 URL.
func (s *Server) Endpoint() string { return "http://" + s.S3Addr }

// AdminURL is the admin URL.
func (s *Server) AdminURL() string { return "http://" + s.AdminAddr }

// Log returns the end of what the server logged.
func (s *Server) Log() string { return s.log.String() }

// Exited is closed when the process has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Kill ends the process with SIGKILL and waits for it.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

// Stop asks the process to end, as a person would, and waits. An unclean end is an error.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		s.Kill()
		return fmt.Errorf("the server did not stop within %v: %s", stopTimeout, s.log)
	}
	if s.err != nil {
		return fmt.Errorf("the server ended badly: %w: %s", s.err, s.log)
	}
	return nil
}

// CPU is the processor time that the process has used, in user and kernel mode.
func (s *Server) CPU() (time.Duration, error) { return CPU(s.PID()) }

// CPU is the processor time that any process has used, in user and kernel mode.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses; utime and stime are fields 14 and 15 (proc(5)).
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("stat of %d: %q", pid, b)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	const tick = time.Second / 100 // USER_HZ on Linux
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// PeakRSS is the most memory that the process has held, in bytes.
func (s *Server) PeakRSS() (int64, error) { return PeakRSS(s.PID()) }

// PeakRSS is the most memory that any process has held, in bytes.
func PeakRSS(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmHWM in the process's status")
}

// tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	also io.Writer
	mu   sync.Mutex
	b    []byte
}

// Write keeps p.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if cut := len(t.b) - tailBytes; cut > 0 {
		t.b = append(t.b[:0], t.b[cut:]...)
	}
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

// String returns the end.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

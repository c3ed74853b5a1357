package bench

import (
	"context"
	"net"
	"sync"
	"time"
)

// link forwards TCP connections, and delivers every byte late, as a long cable does; so does a connection's first byte the
// handshake, which the kernel makes without delay.
type link struct {
	l      net.Listener
	target string
	oneWay time.Duration
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// slowLink listens on a free port in front of target.
func slowLink(target string, oneWay time.Duration) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{l: l, target: target, oneWay: oneWay}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.wg.Go(k.accept)
	return k, nil
}

func (k *link) addr() string { return k.l.Addr().String() }

// close ends the link and waits for what it started.
func (k *link) close() {
	k.stop()
	k.l.Close()
	k.wg.Wait()
}

func (k *link) accept() {
	for {
		near, err := k.l.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", k.target)
		if err != nil {
			near.Close()
			continue
		}
		end := context.AfterFunc(k.ctx, func() { near.Close(); far.Close() })
		k.wg.Go(func() {
			defer end()
			var both sync.WaitGroup
			both.Go(func() { k.carry(far, near, 2*k.oneWay) })
			both.Go(func() { k.carry(near, far, 0) })
			both.Wait()
		})
	}
}

// packet is bytes that are due at a time.
type packet struct {
	b   []byte
	due time.Time
}

const packetsUnderWay = 4096 // of up to 64 KiB

// carry moves bytes from one side to the other until either ends; the first ones need extra time.
func (k *link) carry(to, from net.Conn, extra time.Duration) {
	packets := make(chan packet, packetsUnderWay)
	var w sync.WaitGroup
	w.Go(func() {
		defer to.Close()
		for p := range packets {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.b); err != nil {
				from.Close()
			}
		}
	})
	opened := time.Now().Add(extra)
	for {
		b := make([]byte, 64<<10)
		n, err := from.Read(b)
		if n > 0 {
			due := time.Now()
			if due.Before(opened) {
				due = opened
			}
			packets <- packet{b[:n], due.Add(k.oneWay)}
		}
		if err != nil {
			break
		}
	}
	close(packets)
	w.Wait()
}

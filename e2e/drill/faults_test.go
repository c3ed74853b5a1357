//go:build e2e

package drill

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"cairn"
	"cairn/internal/process"
)

// fault is one thing that breaks, and is whole again.
type fault struct {
	name  string
	begin func() error
	// seen returns nil once the cluster has noticed; nil: there is nothing that it must notice.
	seen func(context.Context) error
	// within is how soon it must be seen; 0: it need not be.
	within time.Duration
	// meanwhile is done after it was seen; nil: nothing.
	meanwhile func() error
	end       func() error
}

const detectWithin = 10 * time.Second // a dead data node

// faults are what the drill does, in order. d is the disk of the last data node; nil: its faults cannot be made here.
func (c *cluster) faults(d *disk) []fault {
	data := c.data
	list := []fault{
		c.process("kill -9", data[0], data[0].kill, nil),
		c.process("SIGSTOP", data[1], func() { data[1].signal(syscall.SIGSTOP) }, func() { data[1].signal(syscall.SIGCONT) }),
		c.network("cut off one way", data[2], wayCut, wayOpen, true),
		c.network("cut off both ways", data[3], wayCut, wayCut, true),
		c.network("30% packet loss", data[4], wayLossy, wayLossy, false),
		c.network("TCP reset", data[5], wayReset, wayReset, false),
		c.leaderKill(),
	}
	if d != nil {
		list = append(list,
			c.disk("full disk", cairn.DriveFull, d.fill, d.empty),
			c.disk("read-only disk", cairn.DriveReadOnly, d.turnReadOnly, d.mend),
			c.disk("hung disk", cairn.DriveHung, func() error { d.gate.shut(); return nil }, func() error { d.gate.open(); return nil }))
	}
	return append(list, c.twoAtOnce(data[0], data[2]))
}

// process is a fault of a data node's process; without undo it was killed, and is started again.
func (c *cluster) process(name string, n *node, do, undo func()) fault {
	if undo == nil {
		undo = n.restart
	}
	return fault{name: name, seen: c.isDown(n), within: detectWithin,
		begin: func() error { do(); return nil }, end: func() error { undo(); return nil }}
}

// network is a fault of everything that a node sends (out) or is sent (in).
func (c *cluster) network(name string, n *node, out, in way, dead bool) fault {
	f := fault{name: name, seen: c.isDown(n),
		begin: func() error { c.net.setAll(n.port, out, in); return nil },
		end:   func() error { c.net.setAll(n.port, wayOpen, wayOpen); return nil }}
	if dead {
		f.within = detectWithin
	}
	return f
}

// disk is a fault of the last data node's disk.
func (c *cluster) disk(name string, state cairn.DriveState, do, undo func() error) fault {
	n := c.data[len(c.data)-1]
	return fault{name: name, begin: do, end: undo, within: time.Minute, seen: func(ctx context.Context) error {
		got, why, err := c.driveState(ctx, n)
		if err == nil && got != state {
			err = fmt.Errorf("the drive is %s: %s", got, why)
		}
		return err
	}}
}

func (c *cluster) leaderKill() fault {
	var victim *node
	return fault{name: "leader kill", within: detectWithin,
		begin: func() (err error) {
			if victim, err = c.leader(); err == nil {
				victim.kill()
			}
			return err
		},
		seen: func(ctx context.Context) error {
			now, err := c.leaderNow(ctx)
			if err == nil && now == victim {
				err = fmt.Errorf("%s leads", victim.name)
			}
			return err
		},
		end: func() error { victim.restart(); return nil }}
}

// twoAtOnce kills two nodes. That is a fifth of the data nodes, so automatic repair freezes and says so, until an operator
// declares both to be out.
func (c *cluster) twoAtOnce(a, b *node) fault {
	return fault{name: "two data nodes", within: detectWithin,
		begin: func() error { a.kill(); b.kill(); return nil },
		seen:  func(ctx context.Context) error { return joined(c.isDown(a)(ctx), c.isDown(b)(ctx)) },
		meanwhile: func() error {
			err := c.tryFor(patience, func(ctx context.Context) error {
				nodes, err := c.nodeStates(ctx)
				if err == nil && !strings.Contains(nodes[a.name].Reason, "frozen") {
					err = fmt.Errorf("nothing says that repair is frozen: %s", nodes[a.name].Reason)
				}
				return err
			})
			if err != nil {
				return err
			}
			return c.cli("node", "out", a.name, b.name)
		},
		end: func() error { a.restart(); b.restart(); return nil }}
}

// isDown returns nil once the node is known to be gone.
func (c *cluster) isDown(n *node) func(context.Context) error {
	return func(ctx context.Context) error {
		nodes, err := c.nodeStates(ctx)
		if s := nodes[n.name].State; err == nil && s != cairn.NodeDown && s != cairn.NodeOut {
			err = fmt.Errorf("%s is %s", n.name, s)
		}
		return err
	}
}

func joined(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// cli runs a command of the program as an operator would, against the first gateway.
func (c *cluster) cli(args ...string) error {
	cmd := exec.Command(c.binary, append(args, "--admin", "http://"+c.gateways[0].addr(adminPort))...)
	cmd.Env = append(os.Environ(), "CAIRN_ROOT_ACCESS_KEY="+process.AccessKey, "CAIRN_ROOT_SECRET_KEY="+process.SecretKey)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cairn %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

package main

import (
	"context"
	"os"

	"github.com/spf13/pflag"

	"cairn"
	"cairn/internal/server"
)

const envToken = "CAIRN_TOKEN"

// memberFlags are the flags of `cairn server` for a node of a cluster.
type memberFlags struct {
	advertise, listen, gossip, roles, name, zone, rack, join, token string
}

func (m *memberFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&m.advertise, "advertise", "", "host, or host:port, at which other nodes reach this one (port "+server.DefaultPort+" unless given)")
	fl.StringVar(&m.listen, "interconnect-addr", "", "where to listen for other nodes, if not at what --advertise says")
	fl.StringVar(&m.gossip, "gossip-addr", "", "host:port at which other nodes reach this one's gossip, TCP and UDP (default the host of --advertise, and the port after its)")
	fl.StringVar(&m.roles, "roles", "", "what a node of a cluster does: meta, data, gateway, or several with commas (default all)")
	fl.StringVar(&m.name, "name", "", "the node's name, unique in the cluster (default made of the host's)")
	fl.StringVar(&m.zone, "zone", "", "the zone that the node fails with")
	fl.StringVar(&m.rack, "rack", "", "the rack that the node fails with, unique in its zone")
	fl.StringVar(&m.join, "join", "", "host, or host:port, of a node of the cluster to join")
	fl.StringVar(&m.token, "token", "", "what `cairn token create` printed (default $"+envToken+", which other users of the machine do not see)")
}

// settle writes the directory's state down for this start, and makes it a node's if that is asked for, or was before.
func (f serverFlags) settle(ctx context.Context, dir *server.Directory, wish server.Wish) (*server.Enlisted, error) {
	m := f.memberFlags
	if m.advertise == "" && m.join == "" && (dir.State == nil || dir.State.Member == nil) {
		state, err := server.Settle(dir.State, wish)
		if err != nil {
			return nil, err
		}
		return &server.Enlisted{}, dir.Save(state)
	}
	e := server.Enlist{Drives: wish, Advertise: m.advertise, Listen: m.listen, Gossip: m.gossip, Name: m.name, Zone: m.zone, Rack: m.rack, Join: m.join, Token: m.token}
	if e.Join != "" && e.Token == "" {
		e.Token = os.Getenv(envToken)
	}
	if m.roles != "" {
		var err error
		if e.Roles, err = cairn.ParseRoles(m.roles); err != nil {
			return nil, err
		}
	}
	enlisted, err := dir.Enlist(ctx, e)
	if err != nil || enlisted.Settings == nil || enlisted.Settings.AccessKey == "" {
		return enlisted, err
	}
	// Every gateway answers to the same root credentials.
	return enlisted, saveCredentials(dir.Path, credentials{AccessKey: enlisted.Settings.AccessKey, SecretKey: enlisted.Settings.SecretKey})
}

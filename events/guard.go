package events

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errInside: a target resolves to an address that it may not have.
var errInside = errors.New("its address is inside the network: add the target with --allow-private if that is meant")

// inside are the networks that netip does not count as private, and that are no place for a webhook out there.
var inside = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"),
}

// outside tells whether an address is one of the public internet.
func outside(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range inside {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// checkAddress is asked with the address that a connection is about to be made to, after names were resolved: what a name resolves
// to now and later may differ.
func checkAddress(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !outside(ap.Addr()) {
		return fmt.Errorf("%s: %w", ap.Addr(), errInside)
	}
	return nil
}

// newClient makes the client of one target. It follows no redirect and no proxy of the environment: either would lead past the
// check.
func newClient(private bool) *http.Client {
	d := &net.Dialer{Timeout: dialTimeout}
	if !private {
		d.Control = checkAddress
	}
	return &http.Client{
		Timeout:       deliveryTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: lanes, MaxConnsPerHost: lanes, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: deliveryTimeout, MaxResponseHeaderBytes: 16 << 10, DisableCompression: true},
	}
}

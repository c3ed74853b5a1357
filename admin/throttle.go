package admin

import (
	"context"
	"net/http"
	"strconv"

	"cairn"
)

// Throttling shows and sets the limits of background work. Safe for concurrent use.
type Throttling interface {
	Throttle(ctx context.Context) (Throttle, error)
	// SetThrottle bounds background work everywhere, within seconds and after a restart. Errors: ErrInvalid.
	SetThrottle(ctx context.Context, t cairn.Throttle) error
}

// Throttle is the limits of background work, and how fast it goes on every drive and node.
type Throttle struct {
	cairn.Throttle
	Drives []DrivePace `json:"drives"`
	Nodes  []NodePace  `json:"nodes"`
}

// DrivePace is the pace of background work on one drive.
type DrivePace struct {
	Node  string        `json:"node,omitempty"` // its name, in a cluster
	Path  string        `json:"path"`
	Drive cairn.DriveID `json:"drive"`
	cairn.Pace
}

// NodePace is the pace of background work on all drives of a node together.
type NodePace struct {
	Node string `json:"node,omitempty"`
	cairn.Pace
}

// throttleRoutes adds what shows and sets the limits of background work.
func (s *Server) throttleRoutes(api register) {
	api(Route{Pattern: "GET /api/v1/repair/throttle", Action: "cairn:GetThrottle", CLI: "repair throttle",
		What: "Show the limits of background work, and how fast it goes.", Gives: Throttle{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return s.cfg.Throttling.Throttle(r.Context())
		})
	api(Route{Pattern: "POST /api/v1/repair/throttle", Action: "cairn:ThrottleRepair", CLI: "repair throttle --drive-ceiling 100MiB",
		What: "Bound background work, from now on.", Gives: Throttle{}, Query: []Parameter{
			{"drive-floor", "bytes per second that it may always move on a drive"}, {"drive-ceiling", "bytes per second that it may move at most on a drive"},
			{"node-floor", "the same on all drives of a node together"}, {"node-ceiling", "the same on all drives of a node together"},
			{"default", "1: begin with the default limits; without it what is not named stays as it is"}}}, s.setThrottle)
}

func (s *Server) setThrottle(_ http.ResponseWriter, r *http.Request) (any, error) {
	now, err := s.cfg.Throttling.Throttle(r.Context())
	if err != nil {
		return nil, err
	}
	limits := now.Throttle
	if r.URL.Query().Has("default") {
		limits = cairn.DefaultThrottle()
	}
	for name, to := range map[string]*int64{"drive-floor": &limits.Drive.Floor, "drive-ceiling": &limits.Drive.Ceiling,
		"node-floor": &limits.Node.Floor, "node-ceiling": &limits.Node.Ceiling} {
		text := r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		if *to, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, &cairn.Error{Op: "admin.throttle", Err: &FieldError{name, "want a number of bytes per second"}}
		}
	}
	if err := s.cfg.Throttling.SetThrottle(r.Context(), limits); err != nil {
		return nil, err
	}
	return s.cfg.Throttling.Throttle(r.Context())
}

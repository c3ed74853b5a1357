package admin

import (
	"context"
	"net/http"
	"time"

	"cairn/events"
	"cairn/meta"
)

// Webhooks keeps the targets of buckets' events and knows their queues. *meta.Store is one.
type Webhooks interface {
	PutEventTarget(ctx context.Context, t events.Target) error
	DeleteEventTarget(ctx context.Context, name string) error
	EventQueues(ctx context.Context) ([]meta.EventQueue, error)
}

// EventTarget is a target and how it stands with its events. Its token is never shown.
type EventTarget struct {
	Name    string    `json:"name"`
	ARN     string    `json:"arn"` // as buckets' configurations name it
	URL     string    `json:"url"`
	Token   bool      `json:"token,omitempty"` // it has one
	Private bool      `json:"private,omitempty"`
	Queued  int64     `json:"queued"`            // events that wait for their delivery
	Lag     float64   `json:"lag_seconds"`       // the age of the oldest of them
	Lost    int64     `json:"lost"`              // events that happened while the queue was full
	Trouble string    `json:"trouble,omitempty"` // why they wait
	Oldest  time.Time `json:"oldest,omitzero"`   // when the oldest of them happened
}

// webhookRoutes adds what shows and changes the targets of events.
func (s *Server) webhookRoutes(api register) {
	api(Route{Pattern: "GET /api/v1/events/targets", Action: "cairn:ListEventTargets", CLI: "event target ls",
		What: "List the webhooks that buckets may tell, and what waits for each.", Gives: []EventTarget{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.eventTargets(r.Context()) })
	api(Route{Pattern: "POST /api/v1/events/targets", Action: "cairn:PutEventTarget", CLI: "event target add t https://hook.example/",
		What: "Let buckets tell a webhook of events, or change the one of that name.", Takes: events.Target{}, Gives: EventTarget{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			var t events.Target
			if err := read(r, &t); err != nil {
				return nil, err
			}
			if err := s.cfg.Webhooks.PutEventTarget(r.Context(), t); err != nil {
				return nil, err
			}
			return EventTarget{Name: t.Name, ARN: events.ARN(t.Name), URL: t.URL, Token: t.Token != "", Private: t.Private}, nil
		})
	api(Route{Pattern: "DELETE /api/v1/events/targets/{name}", Action: "cairn:DeleteEventTarget", CLI: "event target rm t --yes",
		What: "Remove a webhook that no bucket tells any more, with the events that wait for it.", Gives: struct{}{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return struct{}{}, s.cfg.Webhooks.DeleteEventTarget(r.Context(), r.PathValue("name"))
		})
}

func (s *Server) eventTargets(ctx context.Context) ([]EventTarget, error) {
	queues, err := s.cfg.Webhooks.EventQueues(ctx)
	list := make([]EventTarget, len(queues))
	for i, q := range queues {
		list[i] = EventTarget{Name: q.Target.Name, ARN: events.ARN(q.Target.Name), URL: q.Target.URL, Token: q.Target.Token != "",
			Private: q.Target.Private, Queued: q.Queued, Lost: q.Lost, Trouble: q.Trouble, Oldest: q.Oldest}
		if !q.Oldest.IsZero() {
			list[i].Lag = max(time.Since(q.Oldest).Seconds(), 0)
		}
	}
	return list, err
}

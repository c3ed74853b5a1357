package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"cairn"
	"cairn/internal/rpc"
	"cairn/object"
)

// heldPath is where a gateway tells which blobs it reads.
const heldPath = "/node/held"

const (
	// farReadAge is how long a gateway that does not answer may still read what it has looked up.
	farReadAge  = time.Hour
	heldTimeout = 5 * time.Second
	maxHeld     = 1 << 20 // bytes of a question: a page of garbage
)

// heldBlob is a blob in a question.
type heldBlob struct {
	Volume cairn.VolumeID `json:"v"`
	Blob   cairn.BlobID   `json:"b"`
}

// readers asks the other gateways what they read, before anything is deleted for good.
type readers struct{ site *site }

// elsewhere asks all other gateways at once; all tells that every one that may be reading has answered.
func (r readers) elsewhere(ctx context.Context, blobs []cairn.BlobRef) (held []bool, all bool) {
	held, all = make([]bool, len(blobs)), true
	if len(blobs) == 0 {
		return held, all
	}
	question := make([]heldBlob, len(blobs))
	for i, b := range blobs {
		question[i] = heldBlob{b.Volume, b.Blob}
	}
	body, err := json.Marshal(question)
	if err != nil {
		return held, false
	}
	ctx, cancel := context.WithTimeout(ctx, heldTimeout)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, n := range r.site.known() {
		if n.ID == r.site.id || !mayRead(n, time.Now()) {
			continue
		}
		asking.Go(func() {
			answer, err := r.ask(ctx, n.ID, body)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(answer) != len(held) {
				all = false
				return
			}
			for i, is := range answer {
				held[i] = held[i] || is
			}
		})
	}
	asking.Wait()
	return held, all
}

// mayRead tells whether a node may be reading for clients. One that has been away for longer than reads take is not.
func mayRead(n cairn.Node, now time.Time) bool {
	away := n.State == cairn.NodeDown || n.State == cairn.NodeOut
	return n.Roles.Has(cairn.RoleGateway) && n.State != cairn.NodeRemoved && !(away && now.Sub(n.StateSince) > farReadAge)
}

func (r readers) ask(ctx context.Context, node cairn.NodeID, body []byte) (held []bool, err error) {
	client, base, err := r.site.dialer.Peer(node)
	if err != nil {
		return nil, err
	}
	return held, rpc.PostJSON(ctx, client, base+heldPath, body, maxHeld, &held)
}

// serveHeld answers the question of another node's collector.
func serveHeld(objects *object.Store) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question []heldBlob
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxHeld)).Decode(&question); err != nil {
			rpc.WriteError(w, fmt.Errorf("body: %w: %w", err, cairn.ErrInvalid))
			return
		}
		blobs := make([]cairn.BlobRef, len(question))
		for i, b := range question {
			blobs[i] = cairn.BlobRef{Volume: b.Volume, Blob: b.Blob}
		}
		held, err := objects.Held(r.Context(), blobs)
		if err != nil {
			rpc.WriteError(w, err)
			return
		}
		var answer bytes.Buffer
		if err := json.NewEncoder(&answer).Encode(held); err != nil {
			rpc.WriteError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer.Bytes()) // an asker that is gone needs no answer
	})
}

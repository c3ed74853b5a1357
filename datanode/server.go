package datanode

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"cairn"
	"cairn/internal/rpc"
)

// The data plane over HTTP. Bodies of shards are framed (internal/rpc), so both ends verify every byte; the other bodies
// are JSON.
//
//	GET    /v1/drives                                     []cairn.DriveStatus
//	PUT    /v1/drives/{drive}/shards/{volume}/{blob}/{slot}   stores a shard; headers Cairn-Shard, Cairn-Length
//	GET    /v1/drives/{drive}/shards/{volume}/{blob}/{slot}   its data, or a Range of it: bytes=FIRST-LAST
//	GET    /v1/drives/{drive}/stat/{volume}/{blob}/{slot}     cairn.ShardInfo
//	POST   /v1/drives/{drive}/verify/{volume}/{blob}/{slot}   204 if every byte is right
//	DELETE /v1/drives/{drive}/shards                      body: []cairn.ShardID
//	GET    /v1/drives/{drive}/slots                       []cairn.VolumeSlot
//	GET    /v1/drives/{drive}/shards?volume=&slot=&after=&max=   []cairn.ShardInfo
//	GET    /v1/drives/{drive}/digest?volume=&slot=        cairn.BlobSet
//	POST   /v1/drives/{drive}/fence?volume=&epoch=        204
const (
	shardHeader      = "Cairn-Shard"  // base64 of the JSON of cairn.ShardHeader
	lengthHeader     = "Cairn-Length" // bytes of shard data that the body will hold
	backgroundHeader = "Cairn-Background"
	urgentValue      = "urgent"

	pieceBytes   = 1 << 20 // of a streamed shard between server and store
	maxListBytes = 1 << 20 // body of a DELETE
	maxListRows  = 10_000
)

// Server serves a Node's drives to Clients. It authenticates nobody: let it listen on loopback only. Bodies are bounded;
// a stream holds two pieces of 1 MiB.
type Server struct {
	node *Node
	mux  *http.ServeMux
}

// NewServer returns a handler for the routes above.
func NewServer(n *Node) *Server {
	s := &Server{node: n, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /v1/drives", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, n.Statuses(), nil) })
	const one = "/v1/drives/{drive}/"
	s.handle("PUT "+one+"shards/{volume}/{blob}/{slot}", s.put)
	s.handle("GET "+one+"shards/{volume}/{blob}/{slot}", s.get)
	s.handle("GET "+one+"stat/{volume}/{blob}/{slot}", s.stat)
	s.handle("POST "+one+"verify/{volume}/{blob}/{slot}", s.verify)
	s.handle("DELETE "+one+"shards", s.delete)
	s.handle("GET "+one+"slots", s.slots)
	s.handle("GET "+one+"shards", s.list)
	s.handle("GET "+one+"digest", s.digest)
	s.handle("POST "+one+"fence", s.fence)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// request is one call that names a drive.
type request struct {
	*http.Request
	ctx   context.Context
	drive cairn.DriveID
}

// handle adds a route. An error that the handler returns is the answer: it must not have written one.
func (s *Server) handle(route string, serve func(http.ResponseWriter, *request) error) {
	s.mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
		drive, err := cairn.ParseID(r.PathValue("drive"))
		req := &request{Request: r, ctx: r.Context(), drive: drive}
		switch r.Header.Get(backgroundHeader) {
		case "":
		case urgentValue:
			req.ctx = cairn.Urgent(req.ctx)
		default:
			req.ctx = cairn.Background(req.ctx)
		}
		if err == nil {
			err = serve(w, req)
		}
		if err != nil {
			rpc.WriteError(w, err)
		}
	})
}

// number reads an unsigned number from the path or the query.
func (r *request) number(name string, bits int) (uint64, error) {
	text := r.PathValue(name)
	if text == "" {
		text = r.URL.Query().Get(name)
	}
	v, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%s %q is no number of %d bits: %w", name, text, bits, cairn.ErrInvalid)
	}
	return v, nil
}

func (r *request) shard() (cairn.ShardID, error) {
	volume, err1 := r.number("volume", 64)
	blob, err2 := r.number("blob", 64)
	slot, err3 := r.number("slot", 8)
	return cairn.ShardID{Volume: cairn.VolumeID(volume), Blob: cairn.BlobID(blob), Slot: uint8(slot)}, errors.Join(err1, err2, err3)
}

func writeJSON(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
	return nil
}

func noContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (s *Server) put(w http.ResponseWriter, r *request) error {
	h, size, err := r.shardHeader()
	if err != nil {
		return err
	}
	body := rpc.NewFrameReader(r.Body) // the connection buffers the small reads, and large ones go straight to where they are wanted
	if size <= largeAppend {
		err = s.putSmall(r, h, size, body)
	} else {
		err = s.putLarge(r, h, size, body)
	}
	return noContent(w, err)
}

// shardHeader reads what the client tells about the shard, which must be the one that the path names.
func (r *request) shardHeader() (*cairn.ShardHeader, int64, error) {
	id, err := r.shard()
	if err != nil {
		return nil, 0, err
	}
	h := new(cairn.ShardHeader)
	b, err := base64.StdEncoding.DecodeString(r.Header.Get(shardHeader))
	if err == nil {
		err = json.Unmarshal(b, h)
	}
	if err == nil && h.ID != id {
		err = fmt.Errorf("header of %v for %v", h.ID, id)
	}
	size, serr := strconv.ParseInt(r.Header.Get(lengthHeader), 10, 64)
	if err = errors.Join(err, serr); err != nil {
		return nil, 0, fmt.Errorf("bad request: %w: %w", err, cairn.ErrInvalid)
	}
	return h, size, nil
}

// bodyError gives a body that ends early, or holds too much, its kind.
func bodyError(err error) error {
	if cairn.Kind(err) != nil {
		return err
	}
	return fmt.Errorf("body: %w: %w", err, cairn.ErrInvalid)
}

// atEnd checks that the body ends here, by its own account.
func atEnd(body io.Reader) error {
	n, err := io.ReadFull(body, make([]byte, 1))
	if n == 0 && err == io.EOF {
		return nil
	}
	if n > 0 {
		err = errors.New("longer than announced")
	}
	return bodyError(err)
}

func (s *Server) putSmall(r *request, h *cairn.ShardHeader, size int64, body io.Reader) error {
	if size < 0 {
		return fmt.Errorf("length %d: %w", size, cairn.ErrInvalid)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(body, data); err != nil {
		return bodyError(err)
	}
	if err := atEnd(body); err != nil {
		return err
	}
	result := make(chan error, 1)
	s.node.Append(r.ctx, r.drive, h, data, func(err error) { result <- err })
	return <-result // not ctx: data is the store's until then
}

// putLarge streams the body with two buffers: one is filled while the other is written.
func (s *Server) putLarge(r *request, h *cairn.ShardHeader, size int64, body io.Reader) error {
	w, err := s.node.Create(r.ctx, r.drive, h, size)
	if err != nil {
		return err
	}
	free := make(chan []byte, 2)
	for range cap(free) {
		free <- alignedPiece()
	}
	written := make(chan error, cap(free))
	err = copyPieces(w, size, body, free, written)
	if err != nil {
		w.Abort()
	}
	for range cap(free) { // both buffers are ours again
		<-free
	}
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	w.Commit(func(err error) { result <- err })
	if err = <-result; err != nil {
		w.Abort()
	}
	return err
}

func copyPieces(w cairn.ShardWriter, size int64, body io.Reader, free chan []byte, written chan error) error {
	for rest := size; rest > 0; {
		buf := <-free
		select {
		case err := <-written:
			if err != nil {
				free <- buf
				return err
			}
		default:
		}
		n := min(rest, pieceBytes)
		if _, err := io.ReadFull(body, buf[:n]); err != nil {
			free <- buf
			return bodyError(err)
		}
		w.Write(buf[:n], func(err error) {
			select {
			case written <- err:
			default: // an earlier one is there already; Commit fails, too
			}
			free <- buf
		})
		rest -= n
	}
	return atEnd(body)
}

func (s *Server) get(w http.ResponseWriter, r *request) error {
	id, err := r.shard()
	if err != nil {
		return err
	}
	info, err := s.node.Stat(r.ctx, r.drive, id)
	if err != nil {
		return err
	}
	off, n, partial, err := parseRange(r.Header.Get("Range"), info.Length)
	if err != nil {
		return err
	}
	piece := pieces.Get().(*[]byte)
	defer pieces.Put(piece)
	buf := (*piece)[:min(n, pieceBytes)]
	if err := s.node.ReadAt(r.ctx, r.drive, id, buf, off); err != nil {
		return err // before the first byte it has a status of its own
	}
	if n <= pieceBytes { // all of it is there, so no error can take the place of data
		w.Header().Set("Content-Length", strconv.FormatInt(rpc.FramedBytes(n), 10))
	}
	if partial {
		w.WriteHeader(http.StatusPartialContent)
	}
	out := rpc.NewFrameWriter(w)
	for {
		off, n = off+int64(len(buf)), n-int64(len(buf))
		err := rpc.Gather(r.ctx, func() error {
			if _, err := out.Write(buf); err != nil || n > 0 {
				return err
			}
			return out.End()
		})
		if err != nil || n == 0 {
			return nil // a client that is gone needs no end
		}
		buf = buf[:min(n, int64(len(buf)))]
		if err := s.node.ReadAt(r.ctx, r.drive, id, buf, off); err != nil {
			out.Fail(err)
			return nil
		}
	}
}

// pieces are buffers of reads: each holds one for as long as it runs.
var pieces = sync.Pool{New: func() any { b := alignedPiece(); return &b }}

// parseRange reads "bytes=FIRST-LAST" for a shard of length bytes; no range is the whole.
func parseRange(text string, length int64) (off, n int64, partial bool, err error) {
	if text == "" {
		return 0, length, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	off, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || err1 != nil || err2 != nil || off < 0 || end < off || end >= length {
		return 0, 0, false, fmt.Errorf("range %q of a shard of %d bytes: %w", text, length, cairn.ErrInvalid)
	}
	return off, end - off + 1, true, nil
}

func (s *Server) stat(w http.ResponseWriter, r *request) error {
	id, err := r.shard()
	if err != nil {
		return err
	}
	info, err := s.node.Stat(r.ctx, r.drive, id)
	return writeJSON(w, info, err)
}

func (s *Server) verify(w http.ResponseWriter, r *request) error {
	id, err := r.shard()
	if err == nil {
		err = s.node.Verify(r.ctx, r.drive, id)
	}
	return noContent(w, err)
}

func (s *Server) delete(w http.ResponseWriter, r *request) error {
	var ids []cairn.ShardID
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxListBytes)).Decode(&ids); err != nil {
		return bodyError(err)
	}
	return noContent(w, s.node.Delete(r.ctx, r.drive, ids))
}

func (s *Server) slots(w http.ResponseWriter, r *request) error {
	slots, err := s.node.Slots(r.ctx, r.drive)
	return writeJSON(w, slots, err)
}

func (s *Server) list(w http.ResponseWriter, r *request) error {
	volume, err1 := r.number("volume", 64)
	slot, err2 := r.number("slot", 8)
	after, err3 := r.number("after", 64)
	rows, err4 := r.number("max", 31)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	infos, err := s.node.List(r.ctx, r.drive, cairn.VolumeID(volume), uint8(slot), cairn.BlobID(after), min(int(rows), maxListRows))
	return writeJSON(w, infos, err)
}

func (s *Server) digest(w http.ResponseWriter, r *request) error {
	volume, err1 := r.number("volume", 64)
	slot, err2 := r.number("slot", 8)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	set, err := s.node.Digest(r.ctx, r.drive, cairn.VolumeID(volume), uint8(slot))
	return writeJSON(w, set, err)
}

func (s *Server) fence(w http.ResponseWriter, r *request) error {
	volume, err1 := r.number("volume", 64)
	epoch, err2 := r.number("epoch", 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return noContent(w, s.node.Fence(r.ctx, r.drive, cairn.VolumeID(volume), cairn.Epoch(epoch)))
}

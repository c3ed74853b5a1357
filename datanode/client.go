package datanode

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"cairn"
	"cairn/internal/rpc"
	"cairn/internal/vfs"
)

func alignedPiece() []byte { return vfs.AlignedBuffer(pieceBytes) }

// Peers reaches other nodes. *rpc.Dialer is one.
type Peers interface {
	// Peer returns a client and the base URL of a node. Errors: ErrNotFound, ErrUnavailable.
	Peer(node cairn.NodeID) (*http.Client, string, error)
}

// ClientConfig tells how to reach another process's Server: at a URL, or as a node of Peers, whose address may change.
type ClientConfig struct {
	URL      string       // e.g. "http://127.0.0.1:9100"
	HTTP     *http.Client // http.DefaultClient
	Peers    Peers
	Node     cairn.NodeID
	Prefix   string // of the server's routes below the node's URL, e.g. "/data"
	Requests int    // calls under way at once; more wait: 256
}

// Client reaches the drives of another process. It is a blob.Shards for them and has Node's other calls. A node that
// cannot be reached is ErrUnavailable. Safe for concurrent use.
type Client struct {
	cfg   ClientConfig
	turns chan struct{}
	wg    sync.WaitGroup
}

// NewClient returns a client; nothing is contacted yet. ErrInvalid for a bad URL.
func NewClient(cfg ClientConfig) (*Client, error) {
	if u, err := url.Parse(cfg.URL); cfg.Peers == nil && (err != nil || u.Host == "") {
		return nil, &cairn.Error{Op: "datanode.client", Subject: cfg.URL, Err: fmt.Errorf("no URL of a node: %w", cairn.ErrInvalid)}
	}
	if cfg.HTTP == nil {
		cfg.HTTP = http.DefaultClient
	}
	setDefault(&cfg.Requests, 256)
	return &Client{cfg: cfg, turns: make(chan struct{}, cfg.Requests)}, nil
}

// Close waits for the calls that are under way.
func (c *Client) Close() error {
	c.wg.Wait()
	return nil
}

func shardPath(verb string, id cairn.ShardID) string {
	return fmt.Sprintf("%s/%d/%d/%d", verb, id.Volume, id.Blob, id.Slot)
}

// peer returns how to reach the node now.
func (c *Client) peer() (*http.Client, string, error) {
	if c.cfg.Peers == nil {
		return c.cfg.HTTP, c.cfg.URL, nil
	}
	client, base, err := c.cfg.Peers.Peer(c.cfg.Node)
	if err != nil { // a node that is not known now is not a drive without the shard
		return nil, "", fmt.Errorf("%v: %w", err, cairn.ErrUnavailable)
	}
	return client, base + c.cfg.Prefix, nil
}

// call sends a request and returns a response of 2xx, whose body the caller closes.
func (c *Client) call(ctx context.Context, method string, drive cairn.DriveID, path string, body io.Reader,
	headers map[string]string) (*http.Response, error) {
	client, base, err := c.peer()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, base+"/v1/drives/"+drive.String()+"/"+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrInvalid)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	if b, ok := body.(*uploadBody); ok {
		req.ContentLength = rpc.FramedBytes(b.upload.size)
	}
	if cairn.IsBackground(ctx) {
		req.Header.Set(backgroundHeader, "1")
		if cairn.IsUrgent(ctx) {
			req.Header.Set(backgroundHeader, urgentValue)
		}
	}
	r, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrUnavailable)
	}
	if err := rpc.ReadError(r); err != nil {
		r.Body.Close()
		return nil, err
	}
	return r, nil
}

// turn waits until the client may make another call.
func (c *Client) turn(ctx context.Context) error {
	select {
	case c.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) endTurn() { <-c.turns }

// simple makes a call without shard data; answer may be nil.
func (c *Client) simple(ctx context.Context, method string, drive cairn.DriveID, path string, body, answer any) error {
	if err := c.turn(ctx); err != nil {
		return err
	}
	defer c.endTurn()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	r, err := c.call(ctx, method, drive, path, content, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(r.Body).Decode(answer); err != nil {
		return fmt.Errorf("answer: %w: %w", err, cairn.ErrUnavailable)
	}
	return nil
}

func putHeaders(h *cairn.ShardHeader, size int64) (map[string]string, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return map[string]string{shardHeader: base64.StdEncoding.EncodeToString(b), lengthHeader: strconv.FormatInt(size, 10)}, nil
}

// Append stores one whole shard; see blob.Shards.
func (c *Client) Append(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, done func(error)) {
	w, err := c.Create(ctx, drive, h, int64(len(data)))
	if err != nil {
		done(err)
		return
	}
	w.Write(data, nil)
	w.Commit(done)
}

// Create starts a shard that is written in pieces; see blob.Shards. What the node objects to comes from Commit.
func (c *Client) Create(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, size int64) (cairn.ShardWriter, error) {
	headers, err := putHeaders(h, size)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = c.turn(ctx)
	}
	if err != nil {
		return nil, wrap("create", drive, h.ID, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	u := &upload{client: c, size: size, cancel: cancel, drive: drive, id: h.ID}
	u.ready.L = &u.mu
	c.wg.Go(func() {
		defer c.endTurn()
		defer cancel()
		stop := context.AfterFunc(ctx, func() { u.fail(ctx.Err()) }) // wakes the body's reader
		defer stop()
		r, err := c.call(ctx, http.MethodPut, drive, shardPath("shards", h.ID), &uploadBody{upload: u}, headers)
		if err == nil {
			err = r.Body.Close()
		}
		u.finish(err)
	})
	return u, nil
}

// upload is a shard on its way: a body that waits for pieces.
type upload struct {
	client *Client
	drive  cairn.DriveID
	id     cairn.ShardID
	size   int64
	handed int64 // used by the writer alone
	cancel context.CancelFunc

	mu      sync.Mutex
	ready   sync.Cond
	pieces  []uploadPiece
	commit  func(error)
	err     error
	done    bool // the answer has come
	outcome error
}

type uploadPiece struct {
	data []byte
	done func(error)
}

func (p uploadPiece) finish(err error) {
	if p.done != nil {
		p.done(err)
	}
}

// next waits for a piece; ok is false when there are no more, or the upload has failed.
func (u *upload) next() (p uploadPiece, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.pieces) == 0 && u.commit == nil && u.err == nil {
		u.ready.Wait()
	}
	if u.err != nil || len(u.pieces) == 0 {
		return p, false
	}
	p = u.pieces[0]
	u.pieces = u.pieces[1:]
	return p, true
}

// fail ends the upload; pieces that wait fail with it.
func (u *upload) fail(err error) {
	u.mu.Lock()
	if u.err == nil {
		u.err = err
	}
	pieces := u.pieces
	u.pieces = nil
	u.ready.Broadcast()
	u.mu.Unlock()
	for _, p := range pieces {
		p.finish(wrap("write", u.drive, u.id, err))
	}
}

// finish notes the node's answer, and tells it to Commit's caller.
func (u *upload) finish(err error) {
	u.mu.Lock()
	if err == nil && (u.commit == nil || len(u.pieces) > 0) {
		err = fmt.Errorf("answer before the end: %w", cairn.ErrUnavailable)
	}
	if u.err != nil && (err == nil || cairn.Kind(err) == cairn.ErrUnavailable || cairn.Kind(err) == cairn.ErrCanceled) {
		err = u.err // what we know ourselves says more than a broken connection
	}
	u.done, u.outcome = true, err
	commit := u.commit
	u.mu.Unlock()
	if err != nil {
		u.fail(err)
	}
	if commit != nil {
		commit(wrap("commit", u.drive, u.id, err))
	}
}

// Write queues a piece; see cairn.ShardWriter.
func (u *upload) Write(p []byte, done func(error)) {
	u.handed += int64(len(p))
	u.mu.Lock()
	err := u.err
	switch {
	case err != nil:
	case u.handed > u.size:
		err = fmt.Errorf("%d bytes do not fit a shard of %d: %w", u.handed, u.size, cairn.ErrInvalid)
	case len(p)%blockSize != 0 && u.handed != u.size:
		err = fmt.Errorf("a piece of %d bytes is not the last: %w", len(p), cairn.ErrInvalid)
	default:
		u.pieces = append(u.pieces, uploadPiece{p, done})
		u.ready.Broadcast()
	}
	u.mu.Unlock()
	if err != nil {
		u.fail(err)
		uploadPiece{p, done}.finish(wrap("write", u.drive, u.id, err))
	}
}

// Commit sends the end; see cairn.ShardWriter.
func (u *upload) Commit(done func(error)) {
	u.mu.Lock()
	if u.err == nil && u.handed != u.size {
		u.err = fmt.Errorf("%d of %d bytes were written: %w", u.handed, u.size, cairn.ErrInvalid)
	}
	if u.done || u.commit != nil {
		err := errors.Join(u.outcome, u.err)
		if err == nil {
			err = fmt.Errorf("commit after commit: %w", cairn.ErrInvalid)
		}
		u.mu.Unlock()
		done(wrap("commit", u.drive, u.id, err))
		return
	}
	u.commit = done
	u.ready.Broadcast()
	u.mu.Unlock()
}

// Abort breaks the request off; see cairn.ShardWriter.
func (u *upload) Abort() {
	u.fail(fmt.Errorf("aborted: %w", cairn.ErrCanceled))
	u.cancel()
}

// ReadAt reads a range of a shard, verified on both ends; see blob.Shards.
func (c *Client) ReadAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error {
	return wrap("read", drive, id, c.readAt(ctx, drive, id, p, off))
}

func (c *Client) readAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error {
	if off < 0 {
		return fmt.Errorf("offset %d: %w", off, cairn.ErrInvalid)
	}
	if len(p) == 0 { // no Range says this
		info, err := c.Stat(ctx, drive, id)
		if err == nil && off > info.Length {
			err = fmt.Errorf("offset %d of %d: %w", off, info.Length, cairn.ErrInvalid)
		}
		return err
	}
	if err := c.turn(ctx); err != nil {
		return err
	}
	defer c.endTurn()
	cairn.Waited(ctx)
	r, err := c.call(ctx, http.MethodGet, drive, shardPath("shards", id), nil,
		map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1)})
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body := rpc.NewFrameReader(r.Body)
	if _, err = io.ReadFull(body, p); err == nil {
		err = atEnd(body)
	}
	if err != nil && cairn.Kind(err) == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("body: %w: %w", err, cairn.ErrUnavailable)
	}
	return err
}

// Stat describes a shard; see Node.Stat.
func (c *Client) Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (info cairn.ShardInfo, err error) {
	err = c.simple(ctx, http.MethodGet, drive, shardPath("stat", id), nil, &info)
	return info, wrap("stat", drive, id, err)
}

// Verify has the node read and check a whole shard; see Node.Verify.
func (c *Client) Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error {
	return wrap("verify", drive, id, c.simple(ctx, http.MethodPost, drive, shardPath("verify", id), nil, nil))
}

// maxDeleteIDs keeps a request's body under maxListBytes.
const maxDeleteIDs = 8192

// Delete removes shards durably; see Node.Delete.
func (c *Client) Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error {
	for len(ids) > 0 {
		n := min(len(ids), maxDeleteIDs)
		if err := c.simple(ctx, http.MethodDelete, drive, "shards", ids[:n], nil); err != nil {
			return wrap("delete", drive, ids[0], err)
		}
		ids = ids[n:]
	}
	return nil
}

// Slots tells which slots of which volumes a drive holds; see Node.Slots.
func (c *Client) Slots(ctx context.Context, drive cairn.DriveID) (slots []cairn.VolumeSlot, err error) {
	err = c.simple(ctx, http.MethodGet, drive, "slots", nil, &slots)
	return slots, wrap("slots", drive, cairn.ShardID{}, err)
}

// List describes up to limit shards of one slot of a volume; see Node.List.
func (c *Client) List(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8, after cairn.BlobID,
	limit int) (infos []cairn.ShardInfo, err error) {
	path := fmt.Sprintf("shards?volume=%d&slot=%d&after=%d&max=%d", volume, slot, after, max(0, limit))
	err = c.simple(ctx, http.MethodGet, drive, path, nil, &infos)
	return infos, wrap("list", drive, cairn.ShardID{Volume: volume, Slot: slot}, err)
}

// Digest sums up the blobs of one slot; see Node.Digest.
func (c *Client) Digest(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8) (set cairn.BlobSet, err error) {
	err = c.simple(ctx, http.MethodGet, drive, fmt.Sprintf("digest?volume=%d&slot=%d", volume, slot), nil, &set)
	return set, wrap("digest", drive, cairn.ShardID{Volume: volume, Slot: slot}, err)
}

// Fence refuses writes to a volume under an older epoch; see Node.Fence.
func (c *Client) Fence(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, epoch cairn.Epoch) error {
	path := fmt.Sprintf("fence?volume=%d&epoch=%d", volume, epoch)
	return wrap("fence", drive, cairn.ShardID{Volume: volume}, c.simple(ctx, http.MethodPost, drive, path, nil, nil))
}

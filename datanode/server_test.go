package datanode_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/datanode"
	"cairn/internal/rpc"
)

// A PUT whose body is cut off, damaged, too short or too long, or whose header lies, stores nothing.
func TestServerRefusesBadPuts(t *testing.T) {
	n := open(t, datanode.Config{Drives: []datanode.DriveConfig{{Path: t.TempDir()}}, SegmentBytes: 8 << 20})
	server := httptest.NewServer(datanode.NewServer(n))
	defer server.Close()
	drive := n.Statuses()[0].ID
	for _, size := range []int{1000, 400_000} { // in one piece, and streamed
		data := blobtest.Bytes(1, size)
		var whole bytes.Buffer
		out := rpc.NewFrameWriter(&whole)
		if _, err := out.Write(data); err != nil {
			t.Fatal(err)
		}
		unended := whole.Len()
		if err := out.End(); err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(whole.Bytes())
		damaged[len(damaged)/2] ^= 1
		good := blobtest.Header(1, 1, 0, 1)
		for _, test := range []struct {
			name   string
			header *cairn.ShardHeader
			size   int
			body   []byte
			want   error
		}{
			{"without an end", good, size, whole.Bytes()[:unended], cairn.ErrInvalid},
			{"cut off", good, size, whole.Bytes()[:unended/2], cairn.ErrInvalid},
			{"damaged", good, size, damaged, cairn.ErrCorrupt},
			{"shorter than announced", good, size + 1, whole.Bytes(), cairn.ErrInvalid},
			{"longer than announced", good, size - 1, whole.Bytes(), cairn.ErrInvalid},
			{"negative length", good, -1, whole.Bytes(), cairn.ErrInvalid},
			{"another shard's header", blobtest.Header(1, 2, 0, 1), size, whole.Bytes(), cairn.ErrInvalid},
			{"whole", good, size, whole.Bytes(), nil},
		} {
			h, err := json.Marshal(test.header)
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequest(http.MethodPut, server.URL+"/v1/drives/"+drive.String()+"/shards/1/1/0", bytes.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Cairn-Shard", base64.StdEncoding.EncodeToString(h))
			req.Header.Set("Cairn-Length", strconv.Itoa(test.size))
			resp, err := server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if err := rpc.ReadError(resp); !errors.Is(err, test.want) {
				t.Errorf("%d bytes, %s: got %v, want %v", size, test.name, err, test.want)
			}
			resp.Body.Close()
			_, err = n.Stat(context.Background(), drive, good.ID)
			if stored := err == nil; stored != (test.want == nil) {
				t.Errorf("%d bytes, %s: stored %v", size, test.name, stored)
			}
		}
		if err := n.Delete(context.Background(), drive, []cairn.ShardID{good.ID}); err != nil {
			t.Fatal(err)
		}
	}
}

// A node that is gone is unavailable, never a drive without the shard.
func TestClientOfANodeThatIsGone(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	c, err := datanode.NewClient(datanode.ClientConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	read := func() error {
		return c.ReadAt(context.Background(), cairn.DriveID{1}, cairn.ShardID{Volume: 1, Blob: 1}, make([]byte, 1), 0)
	}
	if err := read(); !errors.Is(err, cairn.ErrUnavailable) || errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("another service at the address: got %v, want unavailable", err)
	}
	server.Close()
	if err := read(); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("nobody at the address: got %v, want unavailable", err)
	}
	h := blobtest.Header(1, 1, 0, 1)
	if err := blobtest.Append(context.Background(), c, cairn.DriveID{1}, h, blobtest.Bytes(1, 10)); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("append: got %v, want unavailable", err)
	}
}

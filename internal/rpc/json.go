package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"cairn"
)

// GetJSON asks for a small answer and decodes it; a longer one than max bytes is an error. Errors: what the other node
// reports, with its kind; ErrUnavailable.
func GetJSON(ctx context.Context, client *http.Client, url string, max int64, into any) error {
	return exchangeJSON(ctx, client, http.MethodGet, url, nil, max, into)
}

// PostJSON is GetJSON with a document.
func PostJSON(ctx context.Context, client *http.Client, url string, document []byte, max int64, into any) error {
	return exchangeJSON(ctx, client, http.MethodPost, url, bytes.NewReader(document), max, into)
}

func exchangeJSON(ctx context.Context, client *http.Client, method, url string, body io.Reader, max int64, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return fmt.Errorf("%w: %w", err, cairn.ErrInvalid)
	}
	r, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", err, cairn.ErrUnavailable)
	}
	defer r.Body.Close()
	if err := ReadError(r); err != nil {
		return err
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, max)).Decode(into); err != nil {
		return fmt.Errorf("answer: %w: %w", err, cairn.ErrUnavailable)
	}
	return nil
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// id returns the id of the image that the tag names, or "".
func (d dockerAPI) id(ctx context.Context, tag string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/images/"+tag+"/json", nil)
	if err != nil {
		return ""
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var found struct{ ID string }
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&found) != nil {
		return ""
	}
	return found.ID
}

// load does what docker load does.
func (d dockerAPI) load(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker/images/load?quiet=1", f)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("docker answers %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var message struct{ Error string }
		if json.Unmarshal(lines.Bytes(), &message) == nil && message.Error != "" {
			return fmt.Errorf("docker: %s", message.Error)
		}
	}
	return lines.Err()
}

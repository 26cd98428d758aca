package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// has tells whether the tag names the image with this id.
func (d dockerAPI) has(ctx context.Context, tag, id string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/images/"+tag+"/json", nil)
	if err != nil {
		return false
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var found struct{ ID string }
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&found) == nil && found.ID == id
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

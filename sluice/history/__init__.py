"""From changes in any order to the latest image and the versions of each key."""

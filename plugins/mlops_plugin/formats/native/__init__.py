"""Models in the files of the libraries that trained them: no code in the file, no pickle, no scikit-learn."""

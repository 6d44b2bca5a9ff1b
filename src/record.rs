//! What a run says: outcomes, causes, histograms, series, results. Data only.
